"""Detect objects in many images with an exported file: the pipeline, without torch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from setmatch.errors import DataError
from setmatch.inference.arrays.engine import ArrayEngine
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.inference.image_batches import LoadedImage, UnreadImage, image_batches
from setmatch.inference.options import PredictOptions
from setmatch.structures.detection_arrays import DetectionArrays, coco_rows
from setmatch.visualize.boxes import draw
from setmatch.visualize.labels import ColorBy

Reader = Callable[[int], UInt8[np.ndarray, "H W 3"]]


@dataclass(frozen=True, eq=False)
class ArrayResult(DetectionArrays):
    """The detections of one image, with its pixels."""

    image: UInt8[np.ndarray, "H W 3"]
    segments: None = None  # networks with a mask head have an engine for tensors

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[0], self.image.shape[1]

    def draw(
        self,
        labels: bool | Sequence[str] = True,
        *,
        color_by: ColorBy | Sequence[int] = "class",
    ) -> Image.Image:
        """Return the image with every detection drawn on it, as the function `draw` does."""
        return draw(Image.fromarray(self.image), self, labels, color_by=color_by)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return dictionaries as in COCO results, with class names."""
        return coco_rows(self)


def detect_images(
    engine: ArrayEngine, count: int, read: Reader, options: PredictOptions
) -> Iterator[tuple[int, ArrayResult | DataError]]:
    """Yield the number of each of `count` images, in any order, and its detections or error.

    `read` returns the image of a number from 0 to `count` - 1, or raises the DataError.
    """
    prepare = partial(preprocess, preprocessing=engine.card.preprocessing)
    for part in image_batches(count, read, prepare, options.batch_size, options.readers):
        if isinstance(part, UnreadImage):
            yield part.number, part.error
        else:
            yield from detect_loaded(engine, part, options)


def detect_loaded(
    engine: ArrayEngine, images: Sequence[LoadedImage[np.ndarray]], options: PredictOptions
) -> Iterator[tuple[int, ArrayResult]]:
    """Yield the number and detections of each of some images of one shape, in their order."""
    thresholds = options.thresholds(len(engine.card.categories))
    sizes_px = [(each.image.shape[0], each.image.shape[1]) for each in images]
    detected = engine.detect(np.stack([each.pixels for each in images]), sizes_px)
    for loaded, all_found in zip(images, detected, strict=True):
        found = all_found.above(thresholds)
        columns = (found.xyxy_px, found.scores, found.classes, found.categories)
        yield loaded.number, ArrayResult(*columns, loaded.image)
