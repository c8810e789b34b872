// The overlay on the image: dark where attention is low, or the sampling points.

function paintOverlayMap(canvas, map, [rows, columns]) {
  const small = new OffscreenCanvas(columns, rows);
  const smallContext = small.getContext("2d");
  const image = smallContext.createImageData(columns, rows);
  const peak = Math.max(...map, 1e-12);
  map.forEach((value, cell) => image.data.set(overlayColor(value / peak), 4 * cell));
  smallContext.putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "low"; // bilinear: exact in the middle of each cell
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

const overlayColor = (value) => [8, 10, 20, Math.round(205 * (1 - value ** 0.6))];

// From black over violet and orange to pale yellow.
const HEAT = [[11, 13, 20], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
function heatColor(value) {
  const at = Math.min(value, 0.9999) * (HEAT.length - 1);
  const [low, rest] = [Math.floor(at), at % 1];
  return [...HEAT[low].map((from, channel) => from + rest * (HEAT[low + 1][channel] - from)), 255];
}

function paintThumbnail(canvas, map, [rows, columns]) {
  [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  const peak = Math.max(...map, 1e-12);
  map.forEach((value, cell) => image.data.set(heatColor(Math.sqrt(value / peak)), 4 * cell));
  context.putImageData(image, 0, 0);
}

function paintPoints(canvas, points, maxRadius, lineWidth) {
  const context = canvas.getContext("2d");
  const maxWeight = points[0].weight;
  for (const point of points) {
    const [x, y] = [point.x * canvas.width, point.y * canvas.height];
    const radius = Math.max(maxRadius * Math.sqrt(point.weight / maxWeight), lineWidth);
    tracePoint(context, point.level, x, y, radius);
    context.fillStyle = LEVEL_COLORS[point.level];
    context.globalAlpha = 0.85;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = lineWidth;
    context.strokeStyle = "#000a";
    context.stroke();
  }
}

// The outline of a sampling point: each feature level has a shape as well as a color.
function tracePoint(context, level, x, y, radius) {
  const corners = LEVEL_CORNERS[level];
  context.beginPath();
  if (!corners) context.arc(x, y, radius, 0, 7);
  for (let corner = 0; corner < corners; corner++) {
    const angle = 2 * Math.PI * (corner / corners) - Math.PI / 2 + LEVEL_TURNS[level];
    const reach = radius * LEVEL_REACH[level]; // so that all shapes have about the same area
    context.lineTo(x + reach * Math.cos(angle), y + reach * Math.sin(angle));
  }
  context.closePath();
}

// The radius of the heaviest point: small in small boxes, to keep points apart.
function pointRadius(canvas, most) {
  const [, , w, h] = predictionAt(state.step).boxes[current()];
  const side = Math.sqrt(w * canvas.width * h * canvas.height);
  return Math.min(most, Math.max(0.12 * side, most / 3));
}

function showOverlay() {
  const overlay = $("overlay");
  const scale = OVERLAY_PX / Math.max(WIDTH, HEIGHT);
  [overlay.width, overlay.height] = [WIDTH, HEIGHT].map(
    (side) => Math.max(1, Math.round(side * scale)));
  const context = overlay.getContext("2d");
  const darken = (alpha) => {
    context.fillStyle = `rgba(8, 10, 20, ${alpha})`;
    context.fillRect(0, 0, overlay.width, overlay.height);
  };
  const layer = layerOf(state.step);
  if (state.view === "encoder") {
    paintOverlayMap(overlay, encoderMap(state.encoderLayer, state.point), encoderMaps.grid);
  } else if (state.view === "self") darken(0.6);
  else if (layer === null) darken(0);
  else if (crossMaps) {
    paintOverlayMap(overlay, crossMap(layer, state.head, current()), crossMaps.grid);
  } else {
    darken(0.5);
    const points = pointsOf(layer, state.head, current());
    paintPoints(overlay, points, pointRadius(overlay, OVERLAY_PX / 60), OVERLAY_PX / 600);
  }
}
