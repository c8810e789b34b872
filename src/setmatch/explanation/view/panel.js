// What stands beside the picture, and what it says in words.

function showMaps() {
  const grid = $("maps");
  grid.replaceChildren();
  $("maps-note").textContent = "";
  const cell = (pressed, label, pick) => {
    const made = html("canvas", { role: "button", tabindex: 0, "aria-label": label,
      "aria-pressed": pressed }, grid);
    made.onclick = () => change(pick);
    made.onkeydown = (event) => event.key === "Enter" && change(pick);
    return made;
  };
  if (state.view === "places") {
    $("maps-title").textContent = "Encoder layers";
    grid.style.gridTemplateColumns = `repeat(3, 1fr)`;
    for (let layer = 0; layer < facts.encoderLayers; layer++) {
      const holder = html("div", {}, grid);
      const canvas = cell(layer === state.layer, `encoder layer ${layer + 1}`, { layer });
      holder.append(canvas, html("span", {}, holder, `layer ${layer + 1}`));
      paintSmall(canvas, placeMap(layer, state.point), places.grid);
    }
    const [rows, columns] = places.grid;
    $("maps-note").textContent = `${columns} × ${rows} cells; average over the heads.` +
      pooledNote(places);
    return;
  }
  $("maps-title").textContent = "Decoder layers and heads";
  grid.style.gridTemplateColumns = `1.2rem repeat(${facts.heads + 1}, 1fr)`;
  for (const name of ["", "all", ...Array(facts.heads).keys()]) {
    html("span", {}, grid, typeof name === "number" ? `${name + 1}` : name);
  }
  facts.steps.forEach(({ look, name }, step) => {
    if (look === null) return;
    html("span", {}, grid, `${look + 1}`);
    for (const head of [AVERAGE, ...Array(facts.heads).keys()]) {
      const pressed = step === state.step && head === state.head && state.view === "looks";
      const label = `${name}, ${head === AVERAGE ? "all heads" : `head ${head + 1}`}`;
      const canvas = cell(pressed, label, { step, head, view: "looks" });
      if (looks) paintSmall(canvas, lookMap(look, head, current()), looks.grid);
      else {
        [canvas.width, canvas.height] = [96, Math.max(1, Math.round((96 * HEIGHT) / WIDTH))];
        outline(canvas, answerAt(step).boxes[current()]);
        paintSpots(canvas, lookSpots(look, head, current()), spotSize(canvas, 7), 0.5);
      }
    }
  });
  const note = $("maps-note");
  if (looks) {
    const [rows, columns] = looks.grid;
    note.textContent = `Rows are layers, columns heads; ${columns} × ${rows} cells.` +
      pooledNote(looks);
  } else {
    note.textContent = "Rows are layers, columns heads. Points are as large as their weight; " +
      "colors say how fine a feature map they read: ";
    const levels = Math.max(...facts.looks.level) + 1;
    for (let level = 0; level < levels; level++) {
      const name = level === 0 ? "finest" : level === levels - 1 ? "coarsest" : "middle";
      const style = `background:${LEVELS[level]};margin:0 .25rem 0 .3rem`;
      const whole = html("span", { class: "whole" }, note);
      html("i", { class: "dot", style }, whole);
      whole.append(name);
      note.append(" ");
    }
  }
}

function outline(canvas, [cx, cy, w, h]) {
  const [wide, high] = [w * canvas.width, h * canvas.height];
  const brush = canvas.getContext("2d");
  brush.strokeStyle = "#fff9";
  brush.strokeRect(cx * canvas.width - wide / 2, cy * canvas.height - high / 2, wide, high);
}

const pooledNote = (maps) =>
  maps.pooled > 1 ? ` Pooled ${maps.pooled} × ${maps.pooled}, to keep the page small.` : "";

function showChosen() {
  const card = $("chosen");
  card.replaceChildren();
  const query = current();
  if (state.view === "places") {
    html("h2", {}, card, "A place of the picture");
    const [x, y] = [Math.round(state.point[0] * WIDTH), Math.round(state.point[1] * HEIGHT)];
    const map = placeMap(state.layer, state.point);
    const here = cellOf(state.point);
    html("p", {}, card, `x ${x} px, y ${y} px, in encoder layer ${state.layer + 1}`);
    html("p", { class: "soft" }, card, `${percent(map[here])} of its attention stays in its own ` +
      `cell; the cell it looks at most gets ${percent(Math.max(...map))}.`);
    return;
  }
  const title = html("h2", {}, card);
  html("i", { class: "dot", style: `background:${colorOf(slotOf(query))}` }, title);
  title.append(`Query ${facts.slots[query]}`);
  const table = html("table", {}, card);
  const look = lookOf(state.step);
  if (state.view === "talks" && look !== null) {
    const { self, told } = listeners(look, query);
    const most = Math.max(told.length ? told[0].weight : 0, 1e-9);
    for (const { weight, other } of told) {
      const slot = slotOf(other);
      const row = html("tr", { "data-query": other }, table);
      html("td", {}, row, `${facts.slots[other]}: ${nameOf(slot)} ${percent(scoreOf(other))}`);
      bar(row, weight / most, colorOf(slot));
      html("td", {}, row, percent(weight));
      row.onclick = () => change({ query: other });
    }
    const others = facts.slots.length - 1 - told.length;
    html("p", { class: "soft" }, card, `It listens to itself with ${percent(self)}` +
      (others ? `, and to the ${others} queries not listed with the rest. ` : ". ") +
      "Average over the heads.");
    return;
  }
  facts.steps.forEach(({ name, answer }, step) => {
    const row = html("tr", { "data-step": step, class: step === state.step ? "now" : "" }, table);
    html("td", {}, row, name);
    row.onclick = () => change({ step });
    if (answer === null) {
      html("td", { colspan: 2, class: "soft" }, row, "not trained to answer");
      return;
    }
    const { slots, scores } = facts.answers[answer];
    bar(row, scores[query], colorOf(slots[query]));
    html("td", {}, row, `${nameOf(slots[query])} ${percent(scores[query])}`);
  });
}

function bar(row, share, color) {
  const holder = html("td", { class: "bar" }, row);
  html("i", { style: `width:${(100 * share).toFixed(1)}%;background:${color}` }, holder);
}

function showList() {
  const list = $("list");
  list.replaceChildren();
  for (const { query, slot, score } of foundNow()) {
    const pressed = query === state.query && state.view !== "places";
    const button = html("button", { type: "button", "aria-pressed": pressed }, list);
    html("i", { class: "dot", style: `background:${colorOf(slot)}` }, button);
    button.append(`${nameOf(slot)} ${percent(score)}`);
    button.onclick = () =>
      change({ query, hover: null, view: state.view === "places" ? "looks" : state.view });
  }
  const count = foundNow().length;
  if (count) return;
  const best = facts.found[0];
  html("p", { class: "soft" }, list, "Nothing was found that scores so high. " +
    `The best guess is ${nameOf(best.slot)} with ${percent(best.score)}: lower the score, or ` +
    "look at every query.");
}

function hint() {
  if (state.view === "places") {
    return "Click any point of the picture: what stays bright is what that place looked at in " +
      `the encoder${looks ? "" : ", on its coarsest feature map"}. Framed: the cell it lies in.`;
  }
  const start = lookOf(state.step) === null;
  if (start) return "Before the decoder no query has looked at anything: this is where it starts.";
  if (state.view === "talks") {
    return "The thicker the line, the more the query listened to the other; so the queries agree " +
      "on who answers for what. Hover over a box or tap it for another query.";
  }
  const beside = facts.encoderLayers ? " Click beside the boxes to ask a place instead." : "";
  const before = facts.steps[state.step - 1]?.answer ?? null;
  return `${looks ? "What stays bright is what the query looked at" :
    "The points are where the query looked"}, in this layer.` +
    `${before !== null ? " Dashed: its box before." : ""} Hover over a box or tap it.${beside}`;
}

function show() {
  const count = foundNow().length;
  $("title").textContent = `Why? ${facts.name}`;
  const gives = count ? `gives ${count} answer${count === 1 ? "" : "s"}` : "finds nothing";
  const score = count > 1 ? "score" : "scores";
  $("verdict").textContent =
    `${facts.model} ${gives} that ${score} above ${percent(state.threshold)}.` +
    (facts.encoderLayers ? "" : " The model has no encoder: no place looked at another.") +
    (facts.slots.length < facts.ofQueries
      ? ` Of its ${facts.ofQueries} queries the best ${facts.slots.length} are here.` : "");
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === state.view);
    button.disabled = button.dataset.view === "places" && !facts.encoderLayers;
  }
  $("hint").textContent = hint();
  $("steps").hidden = state.view === "places" && !state.every;
  $("step").value = state.step;
  $("step-name").textContent = facts.steps[state.step].name;
  $("threshold").value = Math.round(100 * state.threshold);
  $("threshold-value").textContent = percent(state.threshold);
  $("every").checked = state.every;
  showVeil();
  showBoxes();
  showChosen();
  showMaps();
  showList();
}

function change(what) {
  Object.assign(state, what);
  show();
}
