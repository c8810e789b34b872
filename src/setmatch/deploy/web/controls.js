// The controls of the page: they change what is shown, or give `open` files to look at.

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function connectSources(open) {
  $("file").onchange = ({ target }) => open(target.files);
  $("camera").onclick = () => (state.camera ? stopCamera() : startCamera());
  document.onpaste = ({ clipboardData }) => open(clipboardData.files);
  document.ondragover = (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  };
  document.ondragleave = () => $("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    open(event.dataTransfer.files);
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
      draw();
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
  draw();
}
