// Masks in COCO's compressed run lengths, as the drawing takes them: small enough for a screen.

const MOST_MASK_PX = 640; // of the longer side

function masksOf(response) {
  const scale = Math.min(1, MOST_MASK_PX / Math.max(response.height, response.width));
  const height = Math.max(1, Math.round(response.height * scale));
  const width = Math.max(1, Math.round(response.width * scale));
  const logits = response.detections.map(({ mask }) => {
    const cells = new Int8Array(height * width).fill(-1);
    let place = 0; // pixels come column by column
    runLengths(mask.counts).forEach((length, number) => {
      const end = place + length;
      if (number % 2) {
        for (let pixel = place; pixel < end; pixel++) {
          const x = Math.floor((Math.floor(pixel / response.height) * width) / response.width);
          const y = Math.floor(((pixel % response.height) * height) / response.height);
          cells[y * width + x] = 1;
        }
      }
      place = end;
    });
    return cells;
  });
  return { height, width, logits };
}

// How many pixels are outside, inside, outside and so on: from five bits in each letter, and after
// the third number the difference from the one before the last.
function runLengths(text) {
  const lengths = [];
  for (let place = 0; place < text.length;) {
    let value = 0;
    let bits = 0;
    let letter;
    do {
      letter = text.charCodeAt(place++) - 48;
      value |= (letter & 31) << bits;
      bits += 5;
    } while (letter & 32);
    if (letter & 16) value |= -1 << bits;
    lengths.push(lengths.length > 2 ? value + lengths.at(-2) : value);
  }
  return lengths;
}
