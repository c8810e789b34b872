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
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    const video = { ...size, facingMode: "environment" };
    state.camera = await navigator.mediaDevices.getUserMedia({ video });
  } catch (error) {
    complain(`The webcam does not start: ${error.message}`);
    return;
  }
  $("camera").textContent = "Stop the webcam";
  $("video").srcObject = state.camera;
  try {
    await $("video").play();
    await follow(state.camera);
  } catch (error) {
    stopCamera();
    complain(`The webcam stopped: ${error.message}`);
  }
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
  for (const track of state.camera.getTracks()) track.stop();
  state.camera = null;
  $("video").srcObject = null;
  $("camera").textContent = "Webcam";
}
