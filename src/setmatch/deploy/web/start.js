// Starts the engine, and connects the controls.

let engine = null;
let asked = 0; // images; the answer for an older one is not shown

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// Detects in an image and shows both. `camera` is the stream that it is a frame of.
async function lookAt(image, camera = null) {
  const turn = ++asked;
  if (!camera) $("speed").textContent = "…";
  const found = await engine.detect(image);
  if (turn !== asked || state.camera !== camera) return;
  complain("");
  Object.assign(state, { image, found });
  if (!camera) $("speed").textContent = `${found.milliseconds.toFixed(0)} ms`;
  draw();
}

function connect() {
  $("file").onchange = ({ target }) => openFirst(target.files);
  $("camera").onclick = () => (state.camera ? stopCamera() : startCamera());
  document.onpaste = ({ clipboardData }) => openFirst(clipboardData.files);
  document.ondragover = (event) => {
    event.preventDefault();
    $("stage").classList.add("over");
  };
  document.ondragleave = () => $("stage").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    $("stage").classList.remove("over");
    openFirst(event.dataTransfer.files);
  };
  $("example").onclick = async () => {
    const blob = await (await fetch(facts.check.image)).blob();
    openFile(new File([blob], "example.png", { type: "image/png" }));
  };
}

function connectFilters() {
  $("threshold").value = 100 * state.threshold;
  $("threshold").oninput = () => {
    state.threshold = $("threshold").value / 100;
    showThreshold();
  };
  facts.classes.forEach(({ name, color }, index) => {
    const item = addHtml("label", { "data-class": index }, $("classes"));
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

async function start() {
  connectFilters();
  new ResizeObserver(draw).observe($("stage"));
  try {
    const model = await unpack($("model").textContent);
    $("download").href = URL.createObjectURL(new Blob([model]));
    const best = await bestEngine(model);
    engine = best.engine;
    $("note").textContent = best.problems.join(". ");
    $("engine").textContent = engine.description;
    $("check").textContent = best.check.text;
    $("check").className = best.check.isGood ? "good" : "bad";
    draw();
    connect();
    for (const control of $("sources").querySelectorAll("input, button")) control.disabled = false;
    await lookAt(state.image); // for the speed: the first time takes longer
  } catch (error) {
    $("engine").textContent = "The model does not run in this browser.";
    complain(error.message);
  }
}

start();
