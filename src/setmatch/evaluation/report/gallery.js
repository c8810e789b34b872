"use strict";
// Filter, sort and enlarge the figures of images with errors. A figure's data-errors holds
// [kind, class, count] for each kind of error in each class.

const gallery = document.getElementById("gallery");
const figures = [...gallery.children].map((figure, rank) => ({
  figure, rank, name: figure.dataset.name, errors: JSON.parse(figure.dataset.errors),
}));
const chosen = (id) => document.getElementById(id).value;

function countMatching({ errors }) {
  const [kind, className] = [chosen("kind"), chosen("class")];
  return errors
    .filter((error) => (!kind || error[0] === kind) && (!className || error[1] === className))
    .reduce((sum, error) => sum + error[2], 0);
}

const orders = {
  rank: (a, b) => a.rank - b.rank,
  count: (a, b) => b.count - a.count || a.rank - b.rank,
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
};

function show() {
  for (const each of figures) {
    each.count = countMatching(each);
    each.figure.hidden = each.count === 0;
  }
  const matching = figures.filter((each) => each.count > 0);
  const errors = matching.reduce((sum, each) => sum + each.count, 0);
  gallery.append(...matching.sort(orders[chosen("sort")]).map((each) => each.figure));
  document.getElementById("matches").textContent = matching.length
    ? `${matching.length} of ${figures.length} images, ${errors} errors`
    : "No image has such an error.";
}

function resize(figure) {
  const isOpen = figure.classList.toggle("open");
  const button = figure.querySelector(".resize");
  button.setAttribute("aria-expanded", isOpen);
  button.textContent = isOpen ? "smaller" : "larger";
}

for (const id of ["kind", "class", "sort"]) document.getElementById(id).onchange = show;
gallery.onclick = (event) => {
  const figure = event.target.closest(".worst");
  if (figure && event.target.closest(".pair, .resize")) resize(figure);
};
show();
