// What lies on the picture: a veil, dark where nobody looked, or the points looked at.

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

// The radius of the heaviest point: small in small boxes, so that points stay apart.
function spotSize(canvas, most) {
  const [, , w, h] = answerAt(state.step).boxes[current()];
  const side = Math.sqrt(w * canvas.width * h * canvas.height);
  return Math.min(most, Math.max(0.12 * side, most / 3));
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
    const seen = lookSpots(look, state.head, current());
    paintSpots(veil, seen, spotSize(veil, VEIL / 60), VEIL / 600);
  }
}
