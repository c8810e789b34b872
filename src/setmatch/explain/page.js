"use strict";
// Everything is drawn anew from `state` by show(); whatever is clicked only changes `state`.

const facts = JSON.parse(document.getElementById("facts").textContent);
const [WIDTH, HEIGHT] = facts.size;
const AVERAGE = -1;
const TOLD = 8; // queries that a query is shown to listen to
const LABELLED = 16; // boxes that get a label; more would hide the picture
const VEIL = 1280; // pixels of the veil's longer side
const LEVELS = ["#ffd166", "#ff7b54", "#e0479e", "#6f7bf7", "#2ec4b6"]; // fine to coarse
const $ = (id) => document.getElementById(id);
const svg = (name, attributes, parent) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return parent.appendChild(made);
};
const html = (name, attributes, parent, text = "") => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return parent.appendChild(made);
};
const percent = (share) => `${share < 0.095 && share > 0 ? (100 * share).toFixed(1) : Math.round(100 * share)}%`;

const indexOf = new Map(facts.slots.map((slot, index) => [slot, index]));
for (const each of facts.found) each.query = indexOf.get(each.query);
const LAST = facts.steps.length - 1;
const lastAnswer = facts.answers.length - 1;
const state = {
  view: "looks",
  query: facts.found.length ? facts.found[0].query : 0, // index into facts.slots
  hover: null,
  step: LAST,
  head: AVERAGE,
  point: [0.5, 0.5],
  layer: facts.encoderLayers - 1, // of the encoder
  threshold: facts.threshold,
  every: false,
};

// ---- what lies packed in the page

async function unpack(packed, Kind = Uint8Array) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Kind(await new Response(stream).arrayBuffer());
}

async function unpackMaps(packed) {
  if (!packed) return null;
  const data = await unpack(packed.data);
  const peaks = await unpack(packed.peaks, Float32Array);
  const cells = data.length / peaks.length;
  const row = (number) => {
    const scale = peaks[number] / packed.greys;
    return Float32Array.from(data.subarray(number * cells, (number + 1) * cells), (v) => v * scale);
  };
  return { row, grid: packed.grid, pooled: packed.pooled };
}

let looks, talks, places, spots;

async function open() {
  talks = await unpackMaps(facts.talks);
  places = await unpackMaps(facts.places);
  if (facts.looks.kind === "maps") looks = await unpackMaps(facts.looks);
  else {
    spots = {
      places: await unpack(facts.looks.places, Uint16Array),
      weights: await unpack(facts.looks.weights, Float32Array),
    };
  }
}

function averaged(rows) {
  const mean = new Float32Array(rows[0].length);
  for (const row of rows) for (let i = 0; i < mean.length; i++) mean[i] += row[i] / rows.length;
  return mean;
}

const heads = (head) => (head === AVERAGE ? [...Array(facts.heads).keys()] : [head]);
const rowOf = (layer, head, query) => (layer * facts.heads + head) * facts.slots.length + query;
const lookMap = (layer, head, query) =>
  averaged(heads(head).map((each) => looks.row(rowOf(layer, each, query))));

function lookSpots(layer, head, query) {
  const count = facts.looks.points;
  const found = [];
  for (const each of heads(head)) {
    for (let point = 0; point < count; point++) {
      const at = rowOf(layer, each, query) * count + point;
      found.push({
        x: (3 * spots.places[2 * at]) / 65535 - 1,
        y: (3 * spots.places[2 * at + 1]) / 65535 - 1,
        weight: spots.weights[at] / heads(head).length,
        level: facts.looks.level[point],
      });
    }
  }
  return found.sort((a, b) => b.weight - a.weight);
}

function placeMap(layer, [x, y]) {
  const [rows, columns] = places.grid;
  const row = Math.min(rows - 1, Math.floor(y * rows));
  const column = Math.min(columns - 1, Math.floor(x * columns));
  return places.row((layer * rows + row) * columns + column);
}

// ---- what is shown

const current = () => state.hover ?? state.query;
const lookOf = (step) => facts.steps[step].look;
const answerAt = (step) => facts.answers[facts.steps[step].answer ?? lastAnswer];
const colourOf = (slot) => facts.classes[slot].colour;
const nameOf = (slot) => facts.classes[slot].name;
const foundNow = () => facts.found.filter((each) => each.score > state.threshold);

function rectangle([cx, cy, w, h]) {
  return { x: (cx - w / 2) * WIDTH, y: (cy - h / 2) * HEIGHT, width: w * WIDTH, height: h * HEIGHT };
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
    group.lastChild.setAttribute("stroke", colourOf(slotOf(query)));
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
  const crowded = queries.length > LABELLED;
  for (const query of order) {
    if (crowded && query !== current()) continue;
    const { x, y, width } = rectangle(answerAt(state.step).boxes[query]);
    const slot = slotOf(query);
    const group = svg("g", { class: "label extra" }, layer);
    const ground = svg("rect", { rx: 3 * unit(), fill: colourOf(slot) }, group);
    const label = svg("text", { "font-size": size, fill: inkOn(colourOf(slot)) }, group);
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

function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
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
      fill: colourOf(slotOf(other)), stroke: "#fff", "stroke-width": 1.5 * unit() }, layer);
  }
}

function showPoint(layer) {
  const [x, y] = [state.point[0] * WIDTH, state.point[1] * HEIGHT];
  const [rows, columns] = places.grid;
  const [wide, high] = [WIDTH / columns, HEIGHT / rows];
  svg("rect", { class: "extra cell", width: wide, height: high,
    x: wide * Math.floor(state.point[0] * columns), y: high * Math.floor(state.point[1] * rows) }, layer);
  const ring = { class: "extra point", cx: x, cy: y, fill: "none" };
  svg("circle", { ...ring, r: 6 * unit(), stroke: "#000", "stroke-width": 5 * unit() }, layer);
  svg("circle", { ...ring, r: 6 * unit(), stroke: "#fff", "stroke-width": 2.5 * unit() }, layer);
}

// ---- the veil: dark where nobody looked

function paintMap(canvas, map, [rows, columns]) {
  const small = new OffscreenCanvas(columns, rows);
  const brush = small.getContext("2d");
  const image = brush.createImageData(columns, rows);
  const peak = Math.max(...map, 1e-12);
  map.forEach((value, cell) => image.data.set(veilOf(value / peak), 4 * cell));
  brush.putImageData(image, 0, 0);
  const paper = canvas.getContext("2d");
  paper.clearRect(0, 0, canvas.width, canvas.height);
  paper.imageSmoothingQuality = "low"; // bilinear: exact in the middle of each cell
  paper.drawImage(small, 0, 0, canvas.width, canvas.height);
}

const veilOf = (share) => [8, 10, 20, Math.round(205 * (1 - share ** 0.6))];

// From black over violet and orange to pale yellow.
const HEAT = [[11, 13, 20], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
function heatOf(share) {
  const at = Math.min(share, 0.9999) * (HEAT.length - 1);
  const [low, rest] = [Math.floor(at), at % 1];
  return [...HEAT[low].map((from, channel) => from + rest * (HEAT[low + 1][channel] - from)), 255];
}

function paintSmall(canvas, map, [rows, columns]) {
  [canvas.width, canvas.height] = [columns, rows];
  const brush = canvas.getContext("2d");
  const image = brush.createImageData(columns, rows);
  const peak = Math.max(...map, 1e-12);
  map.forEach((value, cell) => image.data.set(heatOf(Math.sqrt(value / peak)), 4 * cell));
  brush.putImageData(image, 0, 0);
}

function paintSpots(canvas, found, largest, line) {
  const brush = canvas.getContext("2d");
  const most = found[0].weight;
  for (const spot of found) {
    brush.beginPath();
    const [x, y] = [spot.x * canvas.width, spot.y * canvas.height];
    brush.arc(x, y, Math.max(largest * Math.sqrt(spot.weight / most), line), 0, 7);
    brush.fillStyle = LEVELS[spot.level];
    brush.globalAlpha = 0.85;
    brush.fill();
    brush.globalAlpha = 1;
    brush.lineWidth = line;
    brush.strokeStyle = "#000a";
    brush.stroke();
  }
}

function showVeil() {
  const veil = $("veil");
  const scale = VEIL / Math.max(WIDTH, HEIGHT);
  [veil.width, veil.height] = [WIDTH, HEIGHT].map((side) => Math.max(1, Math.round(side * scale)));
  const paper = veil.getContext("2d");
  const flat = (alpha) => {
    paper.fillStyle = `rgba(8, 10, 20, ${alpha})`;
    paper.fillRect(0, 0, veil.width, veil.height);
  };
  const look = lookOf(state.step);
  if (state.view === "places") paintMap(veil, placeMap(state.layer, state.point), places.grid);
  else if (state.view === "talks") flat(0.6);
  else if (look === null) flat(0);
  else if (looks) paintMap(veil, lookMap(look, state.head, current()), looks.grid);
  else {
    flat(0.5);
    paintSpots(veil, lookSpots(look, state.head, current()), VEIL / 60, VEIL / 600);
  }
}

// ---- beside the picture

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
        const [cx, cy, w, h] = answerAt(step).boxes[current()];
        const brush = canvas.getContext("2d");
        brush.strokeStyle = "#fff9";
        brush.strokeRect((cx - w / 2) * 96, (cy - h / 2) * canvas.height, w * 96, h * canvas.height);
        paintSpots(canvas, lookSpots(look, head, current()), 9, 1);
      }
    }
  });
  const note = $("maps-note");
  if (looks) {
    note.textContent = `Rows are layers, columns heads; ${looks.grid[1]} × ${looks.grid[0]} cells.` +
      pooledNote(looks);
  } else {
    note.textContent = "Rows are layers, columns heads. Points are as large as their weight; " +
      "colours say how fine a feature map they read: ";
    const levels = Math.max(...facts.looks.level) + 1;
    for (let level = 0; level < levels; level++) {
      const name = level === 0 ? "finest " : level === levels - 1 ? "coarsest" : "middle ";
      html("i", { class: "dot", style: `background:${LEVELS[level]};margin:0 .25rem 0 .3rem` }, note);
      note.append(name);
    }
  }
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
    const [, columns] = places.grid;
    const here = Math.min(places.grid[0] - 1, Math.floor(state.point[1] * places.grid[0])) * columns +
      Math.min(columns - 1, Math.floor(state.point[0] * columns));
    html("p", {}, card, `x ${x} px, y ${y} px, in encoder layer ${state.layer + 1}`);
    html("p", { class: "soft" }, card, `${percent(map[here])} of its attention stays in its own ` +
      `cell; the cell it looks at most gets ${percent(Math.max(...map))}.`);
    return;
  }
  const title = html("h2", {}, card);
  html("i", { class: "dot", style: `background:${colourOf(slotOf(query))}` }, title);
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
      bar(row, weight / most, colourOf(slot));
      html("td", {}, row, percent(weight));
      row.onclick = () => change({ query: other });
    }
    html("p", { class: "soft" }, card, `It listens to itself with ${percent(self)}, and to the ` +
      `${facts.slots.length - 1 - told.length} queries not listed with the rest. ` +
      "Average over the heads.");
    return;
  }
  facts.steps.forEach(({ name, answer }, step) => {
    const row = html("tr", { "data-step": step, class: step === state.step ? "now" : "" }, table);
    html("td", {}, row, name);
    row.onclick = () => change({ step });
    if (answer === null) return html("td", { colspan: 2, class: "soft" }, row, "not trained to answer");
    const { slots, scores } = facts.answers[answer];
    bar(row, scores[query], colourOf(slots[query]));
    return html("td", {}, row, `${nameOf(slots[query])} ${percent(scores[query])}`);
  });
}

function bar(row, share, colour) {
  const holder = html("td", { class: "bar" }, row);
  html("i", { style: `width:${(100 * share).toFixed(1)}%;background:${colour}` }, holder);
}

function showList() {
  const list = $("list");
  list.replaceChildren();
  for (const { query, slot, score } of foundNow()) {
    const pressed = query === state.query && state.view !== "places";
    const button = html("button", { type: "button", "aria-pressed": pressed }, list);
    html("i", { class: "dot", style: `background:${colourOf(slot)}` }, button);
    button.append(`${nameOf(slot)} ${percent(score)}`);
    button.onclick = () =>
      change({ query, hover: null, view: state.view === "places" ? "looks" : state.view });
  }
  const count = foundNow().length;
  if (count) return;
  const best = facts.found[0];
  html("p", { class: "soft" }, list, "Nothing was found that scores so high. " +
    `The best guess is ${nameOf(best.slot)} with ${percent(best.score)}: lower the score, or look ` +
    "at every query.");
}

function hint() {
  if (state.view === "places") {
    return "Click any point of the picture: what stays bright is what that place looked at in the " +
      `encoder${looks ? "" : ", on its coarsest feature map"}. Framed: the cell it lies in.`;
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
  $("verdict").textContent =
    `${facts.model} ${count ? `gives ${count} answer${count === 1 ? "" : "s"}` : "finds nothing"} ` +
    `that score${count === 1 ? "s" : count ? "" : "s"} above ${percent(state.threshold)}.` +
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

// ---- what a user does

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
  const area = (query) => answerAt(state.step).boxes[query][2] * answerAt(state.step).boxes[query][3];
  return around.sort((a, b) => area(a) - area(b))[0] ?? null;
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
  $("step").oninput = () => change({ step: Number($("step").value) });
  $("threshold").oninput = () => change({ threshold: Number($("threshold").value) / 100 });
  $("every").onchange = () => change({ every: $("every").checked });
  $("play").onclick = () => {
    const from = state.step === LAST ? 0 : state.step;
    for (let step = from; step <= LAST; step++) {
      setTimeout(() => change({ step }), 900 * (step - from));
    }
  };
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
