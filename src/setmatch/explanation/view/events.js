// What a user does; all of it ends in change().

function placeOf(event) {
  const { left, top, width, height } = $("stage").getBoundingClientRect();
  const inside = (share) => Math.min(Math.max(share, 0), 0.999999);
  return [inside((event.clientX - left) / width), inside((event.clientY - top) / height)];
}

// The smallest box around a point, so that small ones inside large ones can be reached.
function queryAt([x, y]) {
  const around = visibleQueries().filter((query) => {
    const [cx, cy, w, h] = answerAt(state.step).boxes[query];
    return Math.abs(x - cx) <= w / 2 && Math.abs(y - cy) <= h / 2;
  });
  const area = ([, , w, h]) => w * h;
  const { boxes } = answerAt(state.step);
  return around.sort((a, b) => area(boxes[a]) - area(boxes[b]))[0] ?? null;
}

let playing = []; // what is still to come
const stop = () => playing.forEach(clearTimeout);

function play() {
  stop();
  const from = state.step === LAST ? 0 : state.step;
  const steps = [...facts.steps.keys()].slice(from);
  playing = steps.map((step) => setTimeout(() => change({ step }), 900 * (step - from)));
}

function listen() {
  const stage = $("stage");
  stage.onpointermove = (event) => {
    if (event.pointerType !== "mouse" || state.view === "places") return;
    const hover = queryAt(placeOf(event));
    if (hover !== state.hover) change({ hover });
  };
  stage.onpointerleave = () => state.hover !== null && change({ hover: null });
  stage.onclick = (event) => {
    const point = placeOf(event);
    const query = state.view === "places" ? null : queryAt(point);
    if (query !== null) change({ query, hover: null });
    else if (facts.encoderLayers) change({ view: "places", point, hover: null });
  };
  for (const button of document.querySelectorAll("[data-view]")) {
    button.onclick = () => change({ view: button.dataset.view, hover: null });
  }
  $("step").max = LAST;
  $("step").oninput = () => {
    stop();
    change({ step: Number($("step").value) });
  };
  $("threshold").oninput = () => change({ threshold: Number($("threshold").value) / 100 });
  $("every").onchange = () => change({ every: $("every").checked });
  $("play").onclick = play;
  new ResizeObserver(() => showBoxes()).observe(stage);
}

open().then(() => {
  document.title = `Why? ${facts.name}`;
  const stage = $("stage");
  stage.style.aspectRatio = `${WIDTH} / ${HEIGHT}`;
  stage.style.maxWidth = `calc(max(60vh, 20rem) * ${WIDTH / HEIGHT})`;
  $("picture").src = facts.picture;
  $("picture").alt = facts.name;
  listen();
  show();
  document.body.dataset.ready = "yes";
});
