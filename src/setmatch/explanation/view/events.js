// Input events; each ends in change().

function positionOf(event) {
  const { left, top, width, height } = $("stage").getBoundingClientRect();
  const clamp = (value) => Math.min(Math.max(value, 0), 0.999999);
  return [clamp((event.clientX - left) / width), clamp((event.clientY - top) / height)];
}

// The smallest box around a point, to reach small boxes inside large ones.
function queryAt([x, y]) {
  const { boxes } = predictionAt(state.step);
  const around = visibleQueries().filter((query) => {
    const [cx, cy, w, h] = boxes[query];
    return Math.abs(x - cx) <= w / 2 && Math.abs(y - cy) <= h / 2;
  });
  const area = ([, , w, h]) => w * h;
  return around.sort((a, b) => area(boxes[a]) - area(boxes[b]))[0] ?? null;
}

let timers = []; // of the steps still to play
const stop = () => timers.forEach(clearTimeout);

function play() {
  stop();
  const first = state.step === LAST_STEP ? 0 : state.step;
  const steps = [...facts.steps.keys()].slice(first);
  timers = steps.map((step) => setTimeout(() => change({ step }), 900 * (step - first)));
}

function listen() {
  const stage = $("stage");
  stage.onpointermove = (event) => {
    if (event.pointerType !== "mouse" || state.view === "encoder") return;
    const hover = queryAt(positionOf(event));
    if (hover !== state.hover) change({ hover });
  };
  stage.onpointerleave = () => state.hover !== null && change({ hover: null });
  stage.onclick = (event) => {
    const point = positionOf(event);
    const query = state.view === "encoder" ? null : queryAt(point);
    if (query !== null) change({ query, hover: null });
    else if (facts.encoderLayers) change({ view: "encoder", point, hover: null });
  };
  for (const button of document.querySelectorAll("[data-view]")) {
    button.onclick = () => change({ view: button.dataset.view, hover: null });
  }
  $("step").max = LAST_STEP;
  $("step").oninput = () => {
    stop();
    change({ step: Number($("step").value) });
  };
  $("threshold").oninput = () => change({ threshold: Number($("threshold").value) / 100 });
  $("all-queries").onchange = () => change({ allQueries: $("all-queries").checked });
  $("play").onclick = play;
  new ResizeObserver(() => showBoxes()).observe(stage);
}

// The image is there at once. Nothing can be clicked until the maps are unpacked.
async function start() {
  const [stage, main] = [$("stage"), document.querySelector("main")];
  main.inert = true;
  stage.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
  stage.style.maxWidth = `calc(max(60vh, 20rem) * ${WIDTH / HEIGHT})`;
  $("image").src = facts.image;
  $("image").alt = facts.name;
  try {
    await unpackAll((name, number, count) => {
      $("verdict").textContent = `Unpacking ${name} …`;
      $("loading").value = number / count;
    });
  } catch (error) {
    const advice = "DecompressionStream" in window ? "write the page again"
      : "this browser is too old; Chrome 80, Firefox 113 and Safari 16.4 can";
    $("verdict").textContent = `The attention maps cannot be unpacked (${error.message}): ${advice}.`;
    document.body.dataset.failed = "yes";
    return;
  }
  listen();
  show();
  main.inert = false;
  document.body.dataset.ready = "yes";
}

start();
