// The panel beside the image: attention maps of all layers and heads, the selected query, texts.

function showMaps() {
  const grid = $("maps");
  grid.replaceChildren();
  if (state.view === "encoder") showEncoderMaps(grid);
  else showDecoderMaps(grid);
}

function addThumbnail(parent, pressed, label, changes) {
  const canvas = addHtml("canvas", { role: "button", tabindex: 0, "aria-label": label,
    "aria-pressed": pressed }, parent);
  canvas.onclick = () => change(changes);
  canvas.onkeydown = (event) => event.key === "Enter" && change(changes);
  return canvas;
}

function showEncoderMaps(grid) {
  $("maps-title").textContent = "Encoder layers";
  grid.style.gridTemplateColumns = `repeat(3, 1fr)`;
  for (let encoderLayer = 0; encoderLayer < facts.encoderLayers; encoderLayer++) {
    const holder = addHtml("div", {}, grid);
    const pressed = encoderLayer === state.encoderLayer;
    const label = `encoder layer ${encoderLayer + 1}`;
    const canvas = addThumbnail(holder, pressed, label, { encoderLayer });
    addHtml("span", {}, holder, `layer ${encoderLayer + 1}`);
    paintThumbnail(canvas, encoderMap(encoderLayer, state.point), encoderMaps.grid);
  }
  const [rows, columns] = encoderMaps.grid;
  $("maps-note").textContent = `${columns} × ${rows} cells, averaged over the heads.` +
    poolingNote(encoderMaps);
}

function showDecoderMaps(grid) {
  $("maps-title").textContent = "Decoder layers and heads";
  grid.style.gridTemplateColumns = `1.2rem repeat(${facts.heads + 1}, 1fr)`;
  for (const name of ["", "all", ...Array(facts.heads).keys()]) {
    addHtml("span", {}, grid, typeof name === "number" ? `${name + 1}` : name);
  }
  facts.steps.forEach(({ layer, name }, step) => {
    if (layer === null) return;
    addHtml("span", {}, grid, `${layer + 1}`);
    for (const head of [ALL_HEADS, ...Array(facts.heads).keys()]) {
      const pressed = step === state.step && head === state.head && state.view === "cross";
      const label = `${name}, ${head === ALL_HEADS ? "all heads" : `head ${head + 1}`}`;
      const canvas = addThumbnail(grid, pressed, label, { step, head, view: "cross" });
      if (crossMaps) paintThumbnail(canvas, crossMap(layer, head, current()), crossMaps.grid);
      else {
        [canvas.width, canvas.height] = [96, Math.max(1, Math.round((96 * HEIGHT) / WIDTH))];
        paintOutline(canvas, predictionAt(step).boxes[current()]);
        paintPoints(canvas, pointsOf(layer, head, current()), pointRadius(canvas, 7), 0.5);
      }
    }
  });
  const note = $("maps-note");
  if (crossMaps) {
    const [rows, columns] = crossMaps.grid;
    note.textContent = `Rows are layers, columns are heads; ${columns} × ${rows} cells.` +
      poolingNote(crossMaps);
    return;
  }
  note.textContent = "Rows are layers, columns are heads. The size of a point is its attention " +
    "weight, its color and shape are the feature level it samples: ";
  const levels = Math.max(...facts.crossAttention.level) + 1;
  for (let level = 0; level < levels; level++) {
    const name = level === 0 ? "finest" : level === levels - 1 ? "coarsest" : "middle";
    const entry = addHtml("span", { class: "unbroken" }, note);
    const sign = addHtml("canvas", { width: 24, height: 24, "aria-hidden": true }, entry);
    paintPoints(sign, [{ x: 0.5, y: 0.5, weight: 1, level }], 8, 1);
    entry.append(name);
    note.append(" ");
  }
}

function paintOutline(canvas, [cx, cy, w, h]) {
  const [width, height] = [w * canvas.width, h * canvas.height];
  const context = canvas.getContext("2d");
  context.strokeStyle = "#fff9";
  context.strokeRect(
    cx * canvas.width - width / 2, cy * canvas.height - height / 2, width, height);
}

const poolingNote = (maps) =>
  maps.pooling > 1 ? ` Pooled ${maps.pooling} × ${maps.pooling} to keep the page small.` : "";

function showSelected() {
  const card = $("selected");
  card.replaceChildren();
  if (state.view === "encoder") showSelectedPoint(card);
  else showSelectedQuery(card);
}

function showSelectedPoint(card) {
  addHtml("h2", {}, card, "Image position");
  const [x, y] = [Math.round(state.point[0] * WIDTH), Math.round(state.point[1] * HEIGHT)];
  const map = encoderMap(state.encoderLayer, state.point);
  addHtml("p", {}, card, `x ${x} px, y ${y} px, in encoder layer ${state.encoderLayer + 1}`);
  addHtml("p", { class: "soft" }, card, `The cell attends to itself with ` +
    `${percent(map[cellOf(state.point)])}; the most attended cell gets ` +
    `${percent(Math.max(...map))}.`);
}

function showSelectedQuery(card) {
  const query = current();
  const title = addHtml("h2", {}, card);
  addHtml("i", { class: "dot", style: `background:${colorOf(classOf(query))}` }, title);
  title.append(`Query ${facts.queryIds[query]}`);
  const table = addHtml("table", {}, card);
  const layer = layerOf(state.step);
  if (state.view === "self" && layer !== null) showAttended(card, table, layer, query);
  else showSteps(table, query);
}

function showAttended(card, table, layer, query) {
  const { self, attended } = selfAttentionOf(layer, query);
  const most = Math.max(attended.length ? attended[0].weight : 0, 1e-9);
  for (const { weight, other } of attended) {
    const classIndex = classOf(other);
    const row = addHtml("tr", { "data-query": other }, table);
    const label = `${facts.queryIds[other]}: ${nameOf(classIndex)} ${percent(scoreOf(other))}`;
    addHtml("td", {}, row, label);
    addBar(row, weight / most, colorOf(classIndex));
    addHtml("td", {}, row, percent(weight));
    row.onclick = () => change({ query: other });
  }
  const others = facts.queryIds.length - 1 - attended.length;
  addHtml("p", { class: "soft" }, card, `The query attends to itself with ${percent(self)}` +
    (others ? `, and to the ${others} queries not listed with the rest. ` : ". ") +
    "Averaged over the heads.");
}

function showSteps(table, query) {
  facts.steps.forEach(({ name, prediction }, step) => {
    const row = addHtml("tr", { "data-step": step, class: step === state.step ? "now" : "" }, table);
    addHtml("td", {}, row, name);
    row.onclick = () => change({ step });
    if (prediction === null) {
      addHtml("td", { colspan: 2, class: "soft" }, row, "no prediction head");
      return;
    }
    const { classIndices, scores } = facts.predictions[prediction];
    addBar(row, scores[query], colorOf(classIndices[query]));
    addHtml("td", {}, row, `${nameOf(classIndices[query])} ${percent(scores[query])}`);
  });
}

function addBar(row, fraction, color) {
  const holder = addHtml("td", { class: "bar" }, row);
  addHtml("i", { style: `width:${(100 * fraction).toFixed(1)}%;background:${color}` }, holder);
}

function showList() {
  const list = $("list");
  list.replaceChildren();
  for (const { query, classIndex, score } of shownDetections()) {
    const pressed = query === state.query && state.view !== "encoder";
    const button = addHtml("button", { type: "button", "aria-pressed": pressed }, list);
    addHtml("i", { class: "dot", style: `background:${colorOf(classIndex)}` }, button);
    button.append(`${nameOf(classIndex)} ${percent(score)}`);
    button.onclick = () =>
      change({ query, hover: null, view: state.view === "encoder" ? "cross" : state.view });
  }
  if (shownDetections().length) return;
  const best = facts.detections[0];
  addHtml("p", { class: "soft" }, list, "No detection is above the score threshold. The best one " +
    `is ${nameOf(best.classIndex)} with ${percent(best.score)}: lower the threshold, or show all ` +
    "queries.");
}

function hint() {
  if (state.view === "encoder") {
    return "Click anywhere in the image. Bright areas are what that position attends to in " +
      `the encoder${crossMaps ? "" : ", on its coarsest feature map"}. The frame is its cell.`;
  }
  if (layerOf(state.step) === null) {
    return "Before the decoder: the box that the encoder proposed for this query.";
  }
  if (state.view === "self") {
    return "The thicker the line, the more the query attends to the other query. Self-attention " +
      "lets queries settle which of them predicts which object. Hover over or tap a box to " +
      "select its query.";
  }
  const click = facts.encoderLayers ? " Click beside the boxes for encoder attention." : "";
  const hasPrevious = (facts.steps[state.step - 1]?.prediction ?? null) !== null;
  return `${crossMaps ? "Bright areas are what the query attends to" :
    "The points are where the query samples features"} in this layer.` +
    `${hasPrevious ? " Dashed: its previous box." : ""} Hover over or tap a box to select its ` +
    `query.${click}`;
}

function verdict() {
  const count = shownDetections().length;
  const threshold = state.threshold === null ? "the best threshold of its class"
    : percent(state.threshold);
  const outcome = count ? `detects ${count} object${count === 1 ? "" : "s"}` : "detects nothing";
  return `${facts.model} ${outcome} with a score above ${threshold}.` +
    (facts.encoderLayers ? "" : " The model has no encoder, so there is no encoder attention.") +
    (facts.queryIds.length < facts.numQueries
      ? ` The page shows the best ${facts.queryIds.length} of its ${facts.numQueries} queries.` : "");
}

function show() {
  $("verdict").textContent = verdict();
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", button.dataset.view === state.view);
    button.disabled = button.dataset.view === "encoder" && !facts.encoderLayers;
  }
  $("hint").textContent = hint();
  $("steps").hidden = state.view === "encoder" && !state.allQueries;
  $("step").value = state.step;
  $("step-name").textContent = facts.steps[state.step].name;
  $("threshold").value = Math.round(100 * (state.threshold ?? Math.min(...facts.thresholds)));
  $("threshold-value").textContent = state.threshold === null ? "best" : percent(state.threshold);
  $("all-queries").checked = state.allQueries;
  showOverlay();
  showBoxes();
  showSelected();
  showMaps();
  showList();
}

function change(changes) {
  Object.assign(state, changes);
  show();
}
