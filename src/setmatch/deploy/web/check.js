// Checks that the model detects the same here as in PyTorch: an image whose detections are known.

async function checked(engine) {
  const blob = await (await fetch(facts.check.image)).blob();
  const image = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const detections = await engine.detect(image, true);
  state.image = image;
  state.detections = detections;
  const { missing, added, boxPx, score } = compared(detections);
  const { tolerance } = facts.check;
  const isNear = boxPx <= tolerance.boxPx && score <= tolerance.score;
  const isGood = !missing && !added && isNear;
  let text = `checked: ${short(boxPx)} px`;
  if (missing || added) text = `check failed: ${missing} detections are missing, ${added} are added`;
  else if (!isNear) text = `check failed: ${short(boxPx)} px and ${short(score)} in score off`;
  return { isGood, text, boxPx, score };
}

// Pairs each known detection with the nearest one of its class that no other has.
function compared(detections) {
  const left = new Set([...detections.scores.keys()].filter((n) => detections.scores[n] > facts.check.threshold));
  const largest = { missing: 0, added: 0, boxPx: 0, score: 0 };
  for (const known of facts.check.detections) {
    const distances = [...left]
      .filter((n) => detections.classes[n] === known.classIndex)
      .map((n) => [n, Math.max(...known.box.map((side, k) => Math.abs(side - detections.boxes[4 * n + k])))]);
    const [nearest, boxPx] = distances.reduce(
      (best, each) => (each[1] < best[1] ? each : best), [null, Infinity]);
    if (nearest === null) {
      largest.missing++;
      continue;
    }
    left.delete(nearest);
    largest.boxPx = Math.max(largest.boxPx, boxPx);
    largest.score = Math.max(largest.score, Math.abs(detections.scores[nearest] - known.score));
  }
  largest.added = left.size;
  return largest;
}

function short(value) {
  return value < 0.0001 ? "<0.0001" : value < 0.001 ? value.toFixed(4) : value.toPrecision(1);
}
