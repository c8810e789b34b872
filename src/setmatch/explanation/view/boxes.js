// Vector graphics over the image: boxes that move from step to step, labels, lines, a point.

const current = () => state.hover ?? state.query;
const layerOf = (step) => facts.steps[step].layer;
const predictionAt = (step) => facts.predictions[facts.steps[step].prediction ?? LAST_PREDICTION];
const colorOf = (classIndex) => facts.classes[classIndex].color;
const nameOf = (classIndex) => facts.classes[classIndex].name;
// Until the slider is moved, the threshold may be that of each class.
const thresholdOf = (each) => state.threshold ?? facts.thresholds[each.classIndex];
const shownDetections = () => facts.detections.filter((each) => each.score > thresholdOf(each));

function rectangle([cx, cy, w, h]) {
  const [width, height] = [w * WIDTH, h * HEIGHT];
  return { x: cx * WIDTH - width / 2, y: cy * HEIGHT - height / 2, width, height };
}

function visibleQueries() {
  const detected = shownDetections().map((each) => each.query);
  return [...new Set(state.allQueries ? facts.queryIds.keys() : [...detected, current()])];
}

const detectionOf = (query) =>
  state.step === LAST_STEP && facts.detections.find((each) => each.query === query);

// At the last step the class and score of the detection, before it those of the layer.
const classOf = (query) =>
  (detectionOf(query) || { classIndex: predictionAt(state.step).classIndices[query] }).classIndex;
const scoreOf = (query) =>
  (detectionOf(query) || { score: predictionAt(state.step).scores[query] }).score;

const boxGroups = new Map(); // query -> its SVG group, kept to animate it from step to step
function showBoxes() {
  const canvas = $("boxes");
  canvas.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  for (const extra of canvas.querySelectorAll(".extra")) extra.remove();
  const visible = state.view === "encoder" && !state.allQueries ? [] : visibleQueries();
  const prediction = predictionAt(state.step);
  for (const [query, group] of boxGroups) {
    if (!visible.includes(query)) {
      group.remove();
      boxGroups.delete(query);
    }
  }
  const detected = new Set(shownDetections().map((each) => each.query));
  for (const query of visible) {
    let group = boxGroups.get(query);
    if (!group) {
      group = addSvg("g", { class: "box", "data-query": facts.queryIds[query] }, canvas);
      addSvg("rect", { class: "shade" }, group);
      addSvg("rect", { class: "line" }, group);
      boxGroups.set(query, group);
    }
    const selected = query === current() && state.view !== "encoder";
    group.classList.toggle("selected", selected);
    for (const rect of group.children) {
      for (const [key, value] of Object.entries(rectangle(prediction.boxes[query]))) {
        rect.setAttribute(key, value.toFixed(2));
      }
    }
    group.lastChild.setAttribute("stroke", colorOf(classOf(query)));
    const opacity = selected ? 1 : detected.has(query) ? 0.8 : 0.15 + 0.5 * prediction.scores[query];
    group.lastChild.setAttribute("stroke-opacity", opacity);
  }
  if (state.view === "encoder") {
    showPoint(canvas);
    return;
  }
  if (boxGroups.has(current())) canvas.append(boxGroups.get(current()));
  const hasPrevious = state.step > 0 && facts.steps[state.step - 1].prediction !== null;
  if (state.view === "cross" && hasPrevious) {
    const previous = rectangle(predictionAt(state.step - 1).boxes[current()]);
    addSvg("rect", { class: "previous extra", ...previous }, canvas);
  }
  if (state.view === "self") showSelfAttention(canvas);
  showLabels(canvas, visible.filter((query) => detected.has(query) || query === current()));
}

function imagePxPerScreenPx() {
  return WIDTH / Math.max($("stage").clientWidth, 1);
}

function showLabels(canvas, queries) {
  const unit = imagePxPerScreenPx();
  const size = 13 * unit;
  const order = [current(), ...queries.filter((query) => query !== current())];
  const taken = [];
  const crowded = queries.length > MAX_LABELED;
  for (const query of order) {
    if (crowded && query !== current()) continue;
    const { x, y, width: boxWidth } = rectangle(predictionAt(state.step).boxes[query]);
    const color = colorOf(classOf(query));
    const group = addSvg("g", { class: "label extra" }, canvas);
    const background = addSvg("rect", { rx: 3 * unit, fill: color }, group);
    const label = addSvg("text", { "font-size": size, fill: textColorOn(color) }, group);
    label.textContent = `${nameOf(classOf(query))} ${percent(scoreOf(query))}`;
    const width = label.getComputedTextLength() + size;
    const height = 1.5 * size;
    const corner = {
      x: Math.max(0, Math.min(x, WIDTH - width)),
      y: Math.max(0, Math.min(y < height ? y : y - height, HEIGHT - height)),
    };
    const covered = taken.some(
      (other) => corner.x < other.x + other.width && other.x < corner.x + width &&
        corner.y < other.y + height && other.y < corner.y + height);
    if (covered || (width > 2.5 * boxWidth && query !== current())) {
      group.remove();
      continue;
    }
    taken.push({ ...corner, width });
    for (const [key, value] of Object.entries({ ...corner, width, height })) {
      background.setAttribute(key, value);
    }
    label.setAttribute("x", corner.x + size / 2);
    label.setAttribute("y", corner.y + height / 2);
  }
}

function textColorOn(color) {
  const channel = (at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2;
  const [red, green, blue] = [1, 3, 5].map(channel);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.36 ? "#141418" : "#fff";
}

// A query's attention to itself, and to the other queries that get most of it.
function selfAttentionOf(layer, query) {
  const row = selfMaps.row(layer * facts.queryIds.length + query);
  const others = [...row].map((weight, other) => ({ weight, other }));
  const attended = others.filter((each) => each.other !== query)
    .sort((a, b) => b.weight - a.weight).slice(0, MAX_ATTENDED);
  return { self: row[query], attended };
}

function showSelfAttention(canvas) {
  const layer = layerOf(state.step);
  if (layer === null) return;
  const unit = imagePxPerScreenPx();
  const prediction = predictionAt(state.step);
  const [x, y] = prediction.boxes[current()];
  const { attended } = selfAttentionOf(layer, current());
  const most = attended.length ? attended[0].weight : 1;
  for (const { weight, other } of [...attended].reverse()) {
    const [u, v] = prediction.boxes[other];
    const strength = weight / Math.max(most, 1e-9);
    const ends = { x1: x * WIDTH, y1: y * HEIGHT, x2: u * WIDTH, y2: v * HEIGHT };
    addSvg("line", { class: "extra", ...ends, stroke: "#fff", "stroke-width": 1 + 5 * strength,
      "stroke-opacity": 0.35 + 0.65 * strength }, canvas);
    addSvg("circle", { class: "extra", cx: ends.x2, cy: ends.y2, r: (3 + 6 * strength) * unit,
      fill: colorOf(classOf(other)), stroke: "#fff", "stroke-width": 1.5 * unit }, canvas);
  }
}

function showPoint(canvas) {
  const unit = imagePxPerScreenPx();
  const [x, y] = [state.point[0] * WIDTH, state.point[1] * HEIGHT];
  const [rows, columns] = encoderMaps.grid;
  const [width, height] = [WIDTH / columns, HEIGHT / rows];
  const left = width * Math.floor(state.point[0] * columns);
  const top = height * Math.floor(state.point[1] * rows);
  addSvg("rect", { class: "extra cell", width, height, x: left, y: top }, canvas);
  const ring = { class: "extra", cx: x, cy: y, r: 6 * unit, fill: "none" };
  addSvg("circle", { ...ring, stroke: "#000", "stroke-width": 5 * unit }, canvas);
  addSvg("circle", { ...ring, stroke: "#fff", "stroke-width": 2.5 * unit }, canvas);
}
