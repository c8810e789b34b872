"use strict";
// Runs the model beside the page, so that the page stays responsive: images in, detections out.

let ort = null;
let session = null;
let facts = null;

const handlers = { open, detect };
self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ number: data.number, result: await handlers[data.kind](data) });
  } catch (error) {
    self.postMessage({ number: data.number, error: String(error?.message ?? error) });
  }
};

// Starts the runtime, a script and a program, and opens the model in it.
async function open(data) {
  facts = data.facts;
  const code = new Blob([data.script], { type: "text/javascript" });
  ort = await import(URL.createObjectURL(code));
  ort.env.logLevel = "error"; // it warns of each model that some operations run on the CPU
  ort.env.wasm.wasmBinary = data.program;
  session = await ort.InferenceSession.create(data.model, { executionProviders: data.providers });
  return { threads: ort.env.wasm.numThreads };
}

// Detects objects; boxes are in pixels of the image. With `asIs`, the image is not resized.
async function detect({ image, asIs }) {
  const started = performance.now();
  const { data, width, height } = pixelsOf(image);
  const seen = asIs ? [height, width] : seenSize(height, width);
  const pixels = normalized(resized(data, height, width, ...seen), ...seen);
  const feeds = { pixels: new ort.Tensor("float32", pixels, [1, 3, ...seen]) };
  const outputs = await session.run(feeds, facts.outputs);
  const scores = Float32Array.from(outputs.ranked_scores.data);
  const classes = Int32Array.from(outputs.ranked_classes.data, Number);
  const queries = Int32Array.from(outputs.ranked_queries.data, Number);
  const boxes = boxesInPixels(outputs.cxcywh.data, queries, width, height);
  const masks = facts.hasMasks ? bestMasks(outputs.mask_logits, scores, queries) : null;
  return { scores, classes, boxes, masks, milliseconds: performance.now() - started };
}

function pixelsOf(image) {
  const { width, height } = image;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  image.close();
  return context.getImageData(0, 0, width, height);
}

// Height and width of the model's input, by the rule of training.
function seenSize(height, width) {
  const { size, shortSide, longSide } = facts.preprocessing;
  if (size) return size;
  const [short, long] = height <= width ? [height, width] : [width, height];
  const isTooLong = (long / short) * shortSide > longSide;
  const newShort = isTooLong ? roundedToEven((longSide * short) / long) : shortSide;
  const newLong = newShort ? Math.trunc((newShort * long) / short) : longSide;
  const sides = [Math.max(newShort, 1), newLong];
  return height <= width ? sides : sides.reverse();
}

function roundedToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

// Resizes bytes (height, width, 4) to (newHeight, newWidth, 3), bilinearly with antialiasing: as in
// training, first along rows, then along columns, and rounded after both.
function resized(bytes, height, width, newHeight, newWidth) {
  const rows = new Uint8ClampedArray(height * newWidth * 3);
  weightsOf(width, newWidth).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        let place = (y * width + first) * 4 + channel;
        for (let n = 0; n < weights.length; n++, place += 4) sum += weights[n] * bytes[place];
        rows[(y * newWidth + x) * 3 + channel] = Math.floor(sum + 0.5);
      }
    }
  });
  const across = newWidth * 3;
  const whole = new Uint8ClampedArray(newHeight * across);
  weightsOf(height, newHeight).forEach(({ first, weights }, y) => {
    for (let x = 0; x < across; x++) {
      let sum = 0;
      let place = first * across + x;
      for (let n = 0; n < weights.length; n++, place += across) sum += weights[n] * rows[place];
      whole[y * across + x] = Math.floor(sum + 0.5);
    }
  });
  return whole;
}

// For each new pixel of a side, the weights of old pixels from `first` on: a triangle that is as
// wide as two new pixels, and at least as two old ones.
function weightsOf(side, newSide) {
  const scale = side / newSide;
  const reach = Math.max(scale, 1);
  return Array.from({ length: newSide }, (_, place) => {
    const center = (place + 0.5) * scale;
    const first = Math.max(Math.floor(center - reach + 0.5), 0);
    const end = Math.min(Math.floor(center + reach + 0.5), side);
    const weights = Float64Array.from({ length: end - first }, (_, n) =>
      Math.max(1 - Math.abs((first + n + 0.5 - center) / reach), 0));
    const sum = weights.reduce((one, other) => one + other);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// Bytes (height, width, 3) as numbers (3, height, width) with the mean and deviation of training.
function normalized(bytes, height, width) {
  const { mean, std } = facts.preprocessing;
  const cells = height * width;
  const pixels = new Float32Array(3 * cells);
  for (let channel = 0; channel < 3; channel++) {
    const factor = 1 / (255 * std[channel]);
    const shift = mean[channel] / std[channel];
    const offset = channel * cells;
    for (let n = 0; n < cells; n++) pixels[offset + n] = bytes[3 * n + channel] * factor - shift;
  }
  return pixels;
}

// x0, y0, x1, y1 of the box of each detection.
function boxesInPixels(cxcywh, queries, width, height) {
  const boxes = new Float32Array(4 * queries.length);
  queries.forEach((query, n) => {
    const [x, y, w, h] = cxcywh.subarray(4 * query, 4 * query + 4);
    boxes.set([(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height], 4 * n);
  });
  return boxes;
}

// The mask logits of the detections that can be shown, best first.
function bestMasks({ data, dims }, scores, queries) {
  const [height, width] = dims.slice(2);
  const shown = scores.findLastIndex((score) => score > facts.leastScore) + 1;
  const logits = Array.from(queries.subarray(0, shown), (query) =>
    data.slice(query * height * width, (query + 1) * height * width));
  return { height, width, logits };
}
