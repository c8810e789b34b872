"""`predict_folder` for an exported file: the same results, without torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from setmatch.data.images.decoding import read_pixels
from setmatch.errors import DataError
from setmatch.inference.arrays.engine import ArrayEngine
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.inference.image_batches import UnreadImage, image_batches
from setmatch.inference.options import PredictOptions, ScoreThreshold
from setmatch.inference.results_folder import Summary, write_results
from setmatch.structures.detection_arrays import DetectionArrays, coco_rows
from setmatch.visualize.boxes import draw


@dataclass(frozen=True)
class ArrayResult:
    """The detections of one image, with its pixels."""

    detections: DetectionArrays
    image: UInt8[np.ndarray, "H W 3"]
    segments: None = None  # networks with a mask head have an engine for tensors

    def draw(self) -> Image.Image:
        """Return the image with every detection drawn on it."""
        return draw(Image.fromarray(self.image), self.detections)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return dictionaries as in COCO results, with class names."""
        return coco_rows(self.detections)


def predict_folder(
    engine: ArrayEngine,
    sources: Sequence[str | Path],
    out: str | Path,
    threshold: ScoreThreshold = None,
    *,
    batch_size: int = 4,
    classes: Sequence[str | int] | None = None,
    drawn: bool = True,
    progress: bool = True,
) -> Summary:
    """Detect objects in files, folders and globs, and write the detections to the folder `out`.

    Files and errors are those of the function of this name for detectors.
    """
    options = PredictOptions.of(engine, threshold, None, batch_size, classes)

    def detect(paths: Sequence[Path]) -> Iterator[tuple[int, ArrayResult | DataError]]:
        return _detect_images(engine, paths, options)

    return write_results(detect, sources, out, engine.card.categories, drawn, progress)


def _detect_images(
    engine: ArrayEngine, paths: Sequence[Path], options: PredictOptions
) -> Iterator[tuple[int, ArrayResult | DataError]]:
    """Yield the number of each image file, in any order, and its detections or error."""
    thresholds = options.thresholds(len(engine.card.categories))
    prepare = partial(preprocess, preprocessing=engine.card.preprocessing)
    for part in image_batches(
        len(paths), lambda number: read_pixels(paths[number]), prepare, options.batch_size
    ):
        if isinstance(part, UnreadImage):
            yield part.number, part.error
            continue
        sizes_px = [(each.image.shape[0], each.image.shape[1]) for each in part]
        detected = engine.detect(np.stack([each.pixels for each in part]), sizes_px)
        for loaded, detections in zip(part, detected, strict=True):
            yield loaded.number, ArrayResult(detections.above(thresholds), loaded.image)
