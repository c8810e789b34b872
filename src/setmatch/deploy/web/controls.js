// The controls of the page: they change what is shown, or give `open` files to look at.

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// Until the page can look at a file, one that is dropped must not take its place.
function ignoreDrops() {
  document.ondragover = document.ondrop = (event) => event.preventDefault();
}

function connectSources(open) {
  $("file").onchange = ({ target }) => {
    open(target.files);
    target.value = ""; // so that the same file can be chosen again
  };
  $("camera").onclick = () => (state.camera ? stopCamera() : startCamera());
  const given = ({ files }) => {
    if (files.length) open(files);
    else complain("That holds no file: save the image, and choose or drop the file");
  };
  document.onpaste = ({ clipboardData }) => given(clipboardData);
  document.ondragover = (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  };
  document.ondragleave = () => $("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    given(event.dataTransfer);
  };
}

function connectFilters() {
  $("threshold").value = 100 * state.threshold;
  $("threshold").oninput = () => {
    state.threshold = $("threshold").value / 100;
    showThreshold();
  };
  facts.classes.forEach(({ name, color }, index) => {
    const item = addHtml("label", { "data-class": index, class: "absent" }, $("classes"));
    const box = addHtml("input", { type: "checkbox" }, item);
    box.checked = true;
    box.onchange = () => {
      state.hidden[box.checked ? "delete" : "add"](index);
      drawFound();
    };
    addHtml("i", { style: `background:${color}` }, item);
    addHtml("span", {}, item, name);
    addHtml("b", {}, item, "0");
  });
  const setAll = (checked) => {
    for (const box of $("classes").querySelectorAll("input")) {
      if (box.checked !== checked) box.click();
    }
  };
  $("all").onclick = () => setAll(true);
  $("none").onclick = () => setAll(false);
  showThreshold();
}

function showThreshold() {
  $("threshold-value").textContent = state.threshold.toFixed(2);
  drawFound();
}
