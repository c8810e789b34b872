"use strict";
// The data of the page, its state, and the compressed attention maps. Clicks change `state` alone;
// show() draws everything from it.

const facts = JSON.parse(document.getElementById("facts").textContent);
const [WIDTH, HEIGHT] = facts.size;
const ALL_HEADS = -1;
const MAX_ATTENDED = 8; // other queries listed for self-attention
const MAX_LABELED = 16; // boxes with a label; more would hide the image
const OVERLAY_PX = 1280; // long side of the overlay
const LEVEL_COLORS = ["#ffd166", "#ff7b54", "#e0479e", "#6f7bf7", "#2ec4b6"]; // fine to coarse
const LEVEL_CORNERS = [0, 4, 3, 4, 3]; // circle, square, triangle, diamond, triangle upside down
const LEVEL_TURNS = [0, Math.PI / 4, 0, 0, Math.PI];
const LEVEL_REACH = [1, 1.25, 1.55, 1.25, 1.55];
const $ = (id) => document.getElementById(id);
const addSvg = (name, attributes, parent) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
};
const addHtml = (name, attributes, parent, text = "") => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return parent.appendChild(element);
};
const percent = (value) => `${(100 * value).toFixed(value > 0 && value < 0.095 ? 1 : 0)}%`;

// Queries are numbered by their position in facts.queryIds.
const queryOf = new Map(facts.queryIds.map((id, query) => [id, query]));
for (const detection of facts.detections) detection.query = queryOf.get(detection.queryId);
const LAST_STEP = facts.steps.length - 1;
const LAST_PREDICTION = facts.predictions.length - 1;
const state = {
  view: "cross",
  query: facts.detections.length ? facts.detections[0].query : 0,
  hover: null, // query under the mouse
  step: LAST_STEP,
  head: ALL_HEADS,
  point: [0.5, 0.5],
  encoderLayer: facts.encoderLayers - 1,
  threshold: facts.threshold,
  allQueries: false,
};

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
    const scale = peaks[number] / packed.grays;
    return Float32Array.from(data.subarray(number * cells, (number + 1) * cells), (v) => v * scale);
  };
  return { row, grid: packed.grid, pooling: packed.pooling };
}

// Cross-attention is either maps or sampling points; encoderMaps is null without an encoder.
let crossMaps, samplingPoints, selfMaps, encoderMaps;

// Calls onPart(name, number, count) before each part.
async function unpackAll(onPart) {
  const parts = [
    ["self-attention", async () => (selfMaps = await unpackMaps(facts.selfAttention))],
    ["encoder attention", async () => (encoderMaps = await unpackMaps(facts.encoderAttention))],
    ["cross-attention", async () => {
      if (facts.crossAttention.kind === "maps") crossMaps = await unpackMaps(facts.crossAttention);
      else samplingPoints = await unpackPoints(facts.crossAttention);
    }],
  ];
  for (const [number, [name, unpackPart]] of parts.entries()) {
    onPart(name, number, parts.length);
    await unpackPart();
  }
}

const unpackPoints = async ({ positions, weights }) => ({
  positions: await unpack(positions, Uint16Array),
  weights: await unpack(weights, Float32Array),
});

function average(rows) {
  const mean = new Float32Array(rows[0].length);
  for (const row of rows) for (let i = 0; i < mean.length; i++) mean[i] += row[i] / rows.length;
  return mean;
}

const headsOf = (head) => (head === ALL_HEADS ? [...Array(facts.heads).keys()] : [head]);
const rowOf = (layer, head, query) => (layer * facts.heads + head) * facts.queryIds.length + query;
const crossMap = (layer, head, query) =>
  average(headsOf(head).map((each) => crossMaps.row(rowOf(layer, each, query))));

// Sampling points of a query, heaviest first.
function pointsOf(layer, head, query) {
  const count = facts.crossAttention.points;
  const points = [];
  for (const each of headsOf(head)) {
    for (let point = 0; point < count; point++) {
      const at = rowOf(layer, each, query) * count + point;
      points.push({
        x: (3 * samplingPoints.positions[2 * at]) / 65535 - 1,
        y: (3 * samplingPoints.positions[2 * at + 1]) / 65535 - 1,
        weight: samplingPoints.weights[at] / headsOf(head).length,
        level: facts.crossAttention.level[point],
      });
    }
  }
  return points.sort((a, b) => b.weight - a.weight);
}

function cellOf([x, y]) {
  const [rows, columns] = encoderMaps.grid;
  const row = Math.min(rows - 1, Math.floor(y * rows));
  return row * columns + Math.min(columns - 1, Math.floor(x * columns));
}

const encoderMap = (layer, point) =>
  encoderMaps.row(layer * encoderMaps.grid[0] * encoderMaps.grid[1] + cellOf(point));
