"use strict";
// What the page knows: facts of the model, what the visitor chose, and what was detected last.

const $ = (id) => document.getElementById(id);
const facts = JSON.parse($("facts").textContent);
const state = {
  threshold: facts.threshold,
  hidden: new Set(), // class indices
  image: null, // an ImageBitmap
  detections: null, // what the worker detected in it
  camera: null, // the stream of a webcam
};

// The numbers of the detections to show, best first.
function shown() {
  if (!state.detections) return [];
  const { scores, classes } = state.detections;
  return [...scores.keys()].filter((n) =>
    scores[n] > state.threshold && !state.hidden.has(classes[n]));
}

function addHtml(name, attributes, parent, text = "") {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return parent.appendChild(element);
}

// Text that is stored in the page, compressed: the bytes of the model.
async function unpack(text) {
  try {
    const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new Error("The model in this page is damaged: load the page again, or export it again");
  }
}
