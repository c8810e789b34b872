// Starts the engine, and what it needs of the controls.

let engine = null;
let asked = 0; // images; detections in an older one are not shown

// Detects in an image and shows both. `camera` is the stream that it is a frame of.
async function lookAt(image, camera = null) {
  const turn = ++asked;
  if (!camera) $("speed").textContent = "…";
  const detections = await engine.detect(image);
  if (turn !== asked || state.camera !== camera) return;
  complain("");
  Object.assign(state, { image, detections });
  if (!camera) $("speed").textContent = `${detections.milliseconds.toFixed(0)} ms`;
  draw();
}

function connect() {
  connectSources(openFirst);
  $("example").onclick = async () => {
    const blob = await (await fetch(facts.check.image)).blob();
    openFile(new File([blob], "example.png", { type: "image/png" }));
  };
}

async function start() {
  connectFilters();
  ignoreDrops();
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
    for (const name of ["check", "speed", "count"]) $(name).textContent = "–";
    complain(error.message);
  }
}

start();
