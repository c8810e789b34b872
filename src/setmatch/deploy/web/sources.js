// Where images come from: a file that is chosen, dropped or pasted, and a webcam.

async function openFile(file) {
  stopCamera();
  try {
    const image = await createImageBitmap(file, { colorSpaceConversion: "none" });
    await lookAt(image, null, file);
  } catch (error) {
    complain(error.name === "InvalidStateError" || error.name === "EncodingError"
      ? `${file.name}: this browser cannot read it as an image; try JPEG or PNG`
      : `${file.name}: ${error.message}`);
  }
}

function openFirst(files) {
  const file = [...files].find((each) => each.type.startsWith("image/")) ?? files[0];
  if (file) openFile(file);
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    complain("A webcam needs a page from https or from this machine (localhost)");
    return;
  }
  const camera = await askedCamera();
  if (!camera) return;
  state.camera = camera;
  $("camera").textContent = "Stop the webcam";
  $("video").srcObject = camera;
  for (const track of camera.getTracks()) track.onended = () => lose(camera, "it was disconnected");
  try {
    await $("video").play();
    await follow(camera);
  } catch (error) {
    lose(camera, error.message);
  }
}

// The stream of a webcam, if the visitor allows it and looks at no other image meanwhile.
async function askedCamera() {
  const turn = asked;
  const size = { width: { ideal: 640 }, height: { ideal: 480 } };
  $("camera").disabled = true; // a second stream would never be stopped
  try {
    const video = { ...size, facingMode: "environment" };
    const camera = await navigator.mediaDevices.getUserMedia({ video });
    if (turn === asked) return camera;
    stopTracks(camera);
  } catch (error) {
    complain(`The webcam does not start: ${error.message}`);
  } finally {
    $("camera").disabled = false;
  }
  return null;
}

// Stops a webcam that has failed, unless the visitor has stopped it.
function lose(camera, reason) {
  if (state.camera !== camera) return;
  stopCamera();
  complain(`The webcam stopped: ${reason}`);
}

// Detects in one frame after another, as fast as the machine can.
async function follow(camera) {
  let last = performance.now();
  let seconds = null; // of a frame, smoothed
  while (state.camera === camera) {
    await lookAt(await createImageBitmap($("video")), camera);
    const now = performance.now();
    const spent = (now - last) / 1000;
    seconds = seconds === null ? spent : 0.8 * seconds + 0.2 * spent;
    last = now;
    if (state.camera === camera) $("speed").textContent = `${(1 / seconds).toFixed(1)} frames/s`;
    await new Promise(requestAnimationFrame); // which pauses while the page is hidden
  }
}

function stopCamera() {
  if (!state.camera) return;
  stopTracks(state.camera);
  state.camera = null;
  $("video").srcObject = null;
  $("camera").textContent = "Webcam";
}

function stopTracks(camera) {
  for (const track of camera.getTracks()) track.stop();
}
