"""Detect objects in many images with an exported file: the pipeline, without torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from setmatch.errors import DataError
from setmatch.inference.arrays.engine import ArrayEngine
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.inference.image_batches import UnreadImage, image_batches
from setmatch.inference.options import PredictOptions
from setmatch.structures.detection_arrays import DetectionArrays, coco_rows
from setmatch.visualize.boxes import draw

Reader = Callable[[int], UInt8[np.ndarray, "H W 3"]]


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


def detect_images(
    engine: ArrayEngine, count: int, read: Reader, options: PredictOptions
) -> Iterator[tuple[int, ArrayResult | DataError]]:
    """Yield the number of each of `count` images, in any order, and its detections or error.

    `read` returns the image of a number from 0 to `count` - 1, or raises the DataError.
    """
    thresholds = options.thresholds(len(engine.card.categories))
    prepare = partial(preprocess, preprocessing=engine.card.preprocessing)
    for part in image_batches(count, read, prepare, options.batch_size, options.readers):
        if isinstance(part, UnreadImage):
            yield part.number, part.error
            continue
        sizes_px = [(each.image.shape[0], each.image.shape[1]) for each in part]
        detected = engine.detect(np.stack([each.pixels for each in part]), sizes_px)
        for loaded, detections in zip(part, detected, strict=True):
            yield loaded.number, ArrayResult(detections.above(thresholds), loaded.image)
