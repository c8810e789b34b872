// Sends images to the server, and shows its responses.

const DETECT = `v1/detect?threshold=${facts.leastScore}`;
const TRIES = 3; // of an image that comes while the server is busy
const MOST_THUMBNAILS = 50;
const THUMBNAIL_PX = 160;
const classOf = new Map(facts.classes.map(({ categoryId }, index) => [categoryId, index]));
let asked = 0; // images; the response for an older one is not shown

// Detects in an image and shows both. `camera` is the stream that it is a frame of.
async function lookAt(image, camera = null, file = null) {
  const turn = ++asked;
  if (!camera) $("speed").textContent = "…";
  const started = performance.now();
  const response = await ask(file ?? await jpegOf(image));
  if (turn !== asked || state.camera !== camera) return;
  complain("");
  if (!camera) $("speed").textContent = `${(performance.now() - started).toFixed(0)} ms`;
  show(image, response);
  if (file) addThumbnail(image, file, response);
}

async function ask(blob) {
  const headers = { "Content-Type": blob.type || "application/octet-stream" };
  if ($("token")) headers.Authorization = `Bearer ${$("token").value}`;
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(DETECT, { method: "POST", body: blob, headers });
    if (response.ok) return response.json();
    const seconds = Number(response.headers.get("Retry-After"));
    if (!seconds || attempt === TRIES) {
      const { error } = await response.json().catch(() => ({ error: `status ${response.status}` }));
      throw new Error(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

function show(image, response) {
  const detections = {
    scores: Float32Array.from(response.detections, ({ score }) => score),
    classes: Int32Array.from(response.detections, (each) => classOf.get(each.category_id)),
    boxes: Float32Array.from(response.detections.flatMap((each) => each.xyxy_px)),
    masks: response.detections[0]?.mask ? masksOf(response) : null,
  };
  Object.assign(state, { image, response, detections });
  $("stage").classList.add("filled");
  $("result").hidden = false;
  draw();
}

function jpegOf(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

// What is shown, as the server would respond with this threshold and these classes.
function shownJson() {
  const { detections, ...others } = state.response;
  const lines = shown().map((n) => `\n  ${JSON.stringify(detections[n])}`);
  return `${JSON.stringify(others).slice(0, -1)},"detections":[${lines}\n]}`;
}

function addThumbnail(image, file, response) {
  const button = addHtml("button", { type: "button", title: file.name }, $("strip"));
  const canvas = button.appendChild(document.createElement("canvas"));
  const scale = Math.min(1, THUMBNAIL_PX / Math.max(image.width, image.height));
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  button.onclick = async () => {
    stopCamera();
    const turn = ++asked;
    const again = await createImageBitmap(file, { colorSpaceConversion: "none" });
    if (turn !== asked) return;
    show(again, response);
    mark(button);
  };
  mark(button);
  if ($("strip").children.length > MOST_THUMBNAILS) $("strip").firstElementChild.remove();
}

function mark(button) {
  for (const each of $("strip").children) each.setAttribute("aria-current", each === button);
  button.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// One after another, in the order in which they were chosen.
async function openAll(files) {
  const images = [...files].filter(({ type }) => type.startsWith("image/"));
  for (const file of images.length ? images : [...files].slice(0, 1)) await openFile(file);
}

async function copyJson() {
  try {
    await navigator.clipboard.writeText(shownJson());
  } catch {
    // Only pages from https or from this machine may write there; the reader can, by Ctrl-C.
    getSelection().selectAllChildren($("json"));
    return;
  }
  $("copy").textContent = "Copied";
  setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
}

connectSources(openAll);
connectFilters();
document.addEventListener("drawn", () => { $("json").textContent = shownJson(); });
new ResizeObserver(draw).observe($("stage"));
$("copy").onclick = copyJson;
const credentials = $("token") ? '-H "Authorization: Bearer $TOKEN" ' : "";
$("curl").textContent = `curl ${credentials}--data-binary @photo.jpg ${new URL("v1/detect", location.href)}`;
