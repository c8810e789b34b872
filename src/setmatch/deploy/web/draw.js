// The image, and boxes, labels and masks over it. Everything is drawn from `state`.

const LABEL_PX = 12; // letter height
const MASK_OPACITY = 0.5;

function draw() {
  if (!state.image) return;
  drawImage();
  drawFound();
}

// Draws what changes with the controls.
function drawFound() {
  if (!state.image) return;
  drawDetections();
  drawCounts();
  document.dispatchEvent(new Event("drawn"));
}

// Pixels of the page for each pixel of the image.
function shownScale() {
  const { width, height } = state.image;
  return Math.min($("stage").clientWidth / width, (0.8 * innerHeight) / height);
}

// Draws no more pixels than the screen shows: an image may have a hundred times as many.
function drawImage() {
  const { width, height } = state.image;
  const scale = shownScale();
  for (const canvas of [$("image"), $("boxes")]) {
    canvas.style.width = `${width * scale}px`;
    canvas.style.height = `${height * scale}px`;
  }
  const drawn = Math.min(scale * devicePixelRatio, 1);
  const canvas = $("image");
  canvas.width = Math.max(Math.round(width * drawn), 1);
  canvas.height = Math.max(Math.round(height * drawn), 1);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(state.image, 0, 0, canvas.width, canvas.height);
}

function drawDetections() {
  const scale = shownScale();
  const canvas = $("boxes");
  canvas.width = Math.round(state.image.width * scale * devicePixelRatio);
  canvas.height = Math.round(state.image.height * scale * devicePixelRatio);
  const context = canvas.getContext("2d");
  const numbers = shown();
  if (state.detections?.masks) for (const n of numbers) drawMask(context, n);
  context.scale(devicePixelRatio, devicePixelRatio);
  context.lineWidth = 2;
  context.font = `600 ${LABEL_PX}px system-ui, sans-serif`;
  for (const n of numbers) {
    const [x0, y0, x1, y1] = state.detections.boxes.subarray(4 * n, 4 * n + 4).map((side) => side * scale);
    context.strokeStyle = facts.classes[state.detections.classes[n]].color;
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
  const taken = [];
  for (const n of numbers) drawLabel(context, n, scale, taken);
}

// Draws the label of a detection, unless a better one has its place.
function drawLabel(context, n, scale, taken) {
  const { name, color } = facts.classes[state.detections.classes[n]];
  const text = `${name} ${(100 * state.detections.scores[n]).toFixed(0)}%`;
  const width = context.measureText(text).width + 8;
  const height = LABEL_PX + 5;
  const [left, top] = state.detections.boxes.subarray(4 * n, 4 * n + 2).map((side) => side * scale);
  const x = Math.max(Math.min(left - 1, state.image.width * scale - width), 0);
  const y = top >= height ? top - height : Math.max(top, 0);
  const isFree = taken.every(([otherX, otherY, otherWidth]) =>
    x + width < otherX || x > otherX + otherWidth || Math.abs(y - otherY) > height);
  if (!isFree) return;
  taken.push([x, y, width]);
  context.fillStyle = color;
  context.fillRect(x, y, width, height);
  context.fillStyle = isBright(color) ? "#000" : "#fff";
  context.fillText(text, x + 4, y + LABEL_PX + 0.5);
}

function isBright(color) {
  const [red, green, blue] = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150;
}

// Draws the mask of a detection with soft edges: the browser enlarges it.
function drawMask(context, n) {
  const { height, width, logits } = state.detections.masks;
  if (!(n in logits)) return;
  const color = facts.classes[state.detections.classes[n]].color;
  const rgb = [1, 3, 5].map((place) => parseInt(color.slice(place, place + 2), 16));
  const pixels = new ImageData(width, height);
  logits[n].forEach((logit, cell) => {
    const opacity = 255 * MASK_OPACITY * Math.min(Math.max(logit + 0.5, 0), 1);
    pixels.data.set([...rgb, opacity], 4 * cell);
  });
  const mask = new OffscreenCanvas(width, height);
  mask.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(mask, 0, 0, context.canvas.width, context.canvas.height);
}

// How many objects of each class are found, next to the names that choose what is shown.
function drawCounts() {
  const counts = new Map();
  state.detections?.scores.forEach((score, n) => {
    const name = state.detections.classes[n];
    if (score > state.threshold) counts.set(name, (counts.get(name) ?? 0) + 1);
  });
  for (const item of $("classes").children) {
    const count = counts.get(Number(item.dataset.class)) ?? 0;
    item.querySelector("b").textContent = count;
    item.classList.toggle("absent", count === 0);
  }
  const number = shown().length;
  $("count").textContent = `${number} ${number === 1 ? "object" : "objects"}`;
}
