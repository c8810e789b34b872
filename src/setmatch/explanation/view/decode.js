"use strict";
// What the page knows, its state, and the maps that lie in it packed. Everything is drawn anew from
// `state` by show(); whatever is clicked only changes `state`.

const facts = JSON.parse(document.getElementById("facts").textContent);
const [WIDTH, HEIGHT] = facts.size;
const AVERAGE = -1;
const TOLD = 8; // queries that a query is shown to listen to
const LABELED = 16; // boxes that get a label; more would hide the picture
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
const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.095 ? 1 : 0)}%`;

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

function cellOf([x, y]) {
  const [rows, columns] = places.grid;
  const row = Math.min(rows - 1, Math.floor(y * rows));
  return row * columns + Math.min(columns - 1, Math.floor(x * columns));
}

const placeMap = (layer, point) =>
  places.row(layer * places.grid[0] * places.grid[1] + cellOf(point));
