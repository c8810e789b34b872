// What lies over the picture: boxes that glide from step to step, labels, lines, a point.

const current = () => state.hover ?? state.query;
const lookOf = (step) => facts.steps[step].look;
const answerAt = (step) => facts.answers[facts.steps[step].answer ?? lastAnswer];
const colorOf = (slot) => facts.classes[slot].color;
const nameOf = (slot) => facts.classes[slot].name;
const foundNow = () => facts.found.filter((each) => each.score > state.threshold);

function rectangle([cx, cy, w, h]) {
  const [width, height] = [w * WIDTH, h * HEIGHT];
  return { x: cx * WIDTH - width / 2, y: cy * HEIGHT - height / 2, width, height };
}

function visibleQueries() {
  const found = foundNow().map((each) => each.query);
  return [...new Set(state.every ? facts.slots.keys() : [...found, current()])];
}

// The class that an answer was given for; before the last step, what the query believed then.
function slotOf(query) {
  const given = state.step === LAST && facts.found.find((each) => each.query === query);
  return given ? given.slot : answerAt(state.step).slots[query];
}

const boxes = new Map(); // query -> its rectangles, kept so that they glide from step to step
function showBoxes() {
  const layer = $("boxes");
  layer.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  for (const extra of layer.querySelectorAll(".extra")) extra.remove();
  const shown = state.view === "places" && !state.every ? [] : visibleQueries();
  const answer = answerAt(state.step);
  for (const [query, group] of boxes) {
    if (!shown.includes(query)) {
      group.remove();
      boxes.delete(query);
    }
  }
  const found = new Set(foundNow().map((each) => each.query));
  for (const query of shown) {
    let group = boxes.get(query);
    if (!group) {
      group = svg("g", { class: "box", "data-query": facts.slots[query] }, layer);
      svg("rect", { class: "shade" }, group);
      svg("rect", { class: "line" }, group);
      boxes.set(query, group);
    }
    const held = query === current() && state.view !== "places";
    group.classList.toggle("held", held);
    group.classList.toggle("weak", !found.has(query) && !held);
    for (const rect of group.children) {
      for (const [key, value] of Object.entries(rectangle(answer.boxes[query]))) {
        rect.setAttribute(key, value.toFixed(2));
      }
    }
    group.lastChild.setAttribute("stroke", colorOf(slotOf(query)));
    const strength = held ? 1 : found.has(query) ? 0.8 : 0.15 + 0.5 * answer.scores[query];
    group.lastChild.setAttribute("stroke-opacity", strength);
  }
  if (state.view !== "places") {
    if (boxes.has(current())) layer.append(boxes.get(current()));
    if (state.view === "looks" && state.step > 0 && facts.steps[state.step - 1].answer !== null) {
      const before = rectangle(answerAt(state.step - 1).boxes[current()]);
      svg("rect", { class: "before extra", ...before }, layer);
    }
    if (state.view === "talks") showTalks(layer);
    showLabels(layer, shown.filter((query) => found.has(query) || query === current()));
  } else showPoint(layer);
}

function unit() {
  return WIDTH / Math.max($("stage").clientWidth, 1); // pixels of the picture in one on the screen
}

function showLabels(layer, queries) {
  const size = 13 * unit();
  const order = [current(), ...queries.filter((query) => query !== current())];
  const taken = [];
  const crowded = queries.length > LABELED;
  for (const query of order) {
    if (crowded && query !== current()) continue;
    const { x, y, width } = rectangle(answerAt(state.step).boxes[query]);
    const slot = slotOf(query);
    const group = svg("g", { class: "label extra" }, layer);
    const ground = svg("rect", { rx: 3 * unit(), fill: colorOf(slot) }, group);
    const label = svg("text", { "font-size": size, fill: inkOn(colorOf(slot)) }, group);
    label.textContent = `${nameOf(slot)} ${percent(scoreOf(query))}`;
    const wide = label.getComputedTextLength() + size;
    const high = 1.5 * size;
    const spot = {
      x: Math.max(0, Math.min(x, WIDTH - wide)),
      y: Math.max(0, Math.min(y < high ? y : y - high, HEIGHT - high)),
    };
    const covered = taken.some(
      (other) => spot.x < other.x + other.wide && other.x < spot.x + wide &&
        spot.y < other.y + high && other.y < spot.y + high);
    if (covered || (wide > 2.5 * width && query !== current())) {
      group.remove();
      continue;
    }
    taken.push({ ...spot, wide });
    for (const [key, value] of Object.entries({ ...spot, width: wide, height: high })) {
      ground.setAttribute(key, value);
    }
    label.setAttribute("x", spot.x + size / 2);
    label.setAttribute("y", spot.y + high / 2);
  }
}

function inkOn(color) {
  const channel = (at) => (parseInt(color.slice(at, at + 2), 16) / 255) ** 2.2;
  const [red, green, blue] = [1, 3, 5].map(channel);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.36 ? "#141418" : "#fff";
}

function scoreOf(query) {
  const given = state.step === LAST && facts.found.find((each) => each.query === query);
  return given ? given.score : answerAt(state.step).scores[query];
}

function listeners(look, query) {
  const row = talks.row(look * facts.slots.length + query);
  const others = [...row].map((weight, other) => ({ weight, other }));
  const told = others.filter((each) => each.other !== query).sort((a, b) => b.weight - a.weight);
  return { self: row[query], told: told.slice(0, TOLD) };
}

function showTalks(layer) {
  const look = lookOf(state.step);
  if (look === null) return;
  const answer = answerAt(state.step);
  const [x, y] = answer.boxes[current()];
  const { told } = listeners(look, current());
  const most = told.length ? told[0].weight : 1;
  for (const { weight, other } of [...told].reverse()) {
    const [u, v] = answer.boxes[other];
    const share = weight / Math.max(most, 1e-9);
    const ends = { x1: x * WIDTH, y1: y * HEIGHT, x2: u * WIDTH, y2: v * HEIGHT };
    svg("line", { class: "extra talk", ...ends, stroke: "#fff", "stroke-width": 1 + 5 * share,
      "stroke-opacity": 0.35 + 0.65 * share }, layer);
    svg("circle", { class: "extra", cx: ends.x2, cy: ends.y2, r: (3 + 6 * share) * unit(),
      fill: colorOf(slotOf(other)), stroke: "#fff", "stroke-width": 1.5 * unit() }, layer);
  }
}

function showPoint(layer) {
  const [x, y] = [state.point[0] * WIDTH, state.point[1] * HEIGHT];
  const [rows, columns] = places.grid;
  const [wide, high] = [WIDTH / columns, HEIGHT / rows];
  const left = wide * Math.floor(state.point[0] * columns);
  const top = high * Math.floor(state.point[1] * rows);
  svg("rect", { class: "extra cell", width: wide, height: high, x: left, y: top }, layer);
  const ring = { class: "extra point", cx: x, cy: y, fill: "none" };
  svg("circle", { ...ring, r: 6 * unit(), stroke: "#000", "stroke-width": 5 * unit() }, layer);
  svg("circle", { ...ring, r: 6 * unit(), stroke: "#fff", "stroke-width": 2.5 * unit() }, layer);
}
