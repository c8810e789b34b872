"""Detect objects in many images: read ahead in threads, run in batches of one shape."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from setmatch.data.batches.transforms import preprocess
from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.inference.engines.base import Engine
from setmatch.inference.engines.checked import sound_output
from setmatch.inference.image_batches import LoadedImage, UnreadImage, image_batches
from setmatch.inference.masks import detections_with_masks, segments_of
from setmatch.inference.options import PredictOptions
from setmatch.ops.label_placement import Rectangle
from setmatch.structures.batch import Batch
from setmatch.structures.detections import Detections
from setmatch.structures.segments import Segments
from setmatch.visualize.boxes import draw
from setmatch.visualize.labels import ColorBy
from setmatch.visualize.segments import draw_segments

Reader = Callable[[int], UInt8[Tensor, "3 H W"]]

_NOTEBOOK_PX = 1024


@dataclass(frozen=True, eq=False, repr=False)
class ImageResult(Detections):
    """The detections of one image, with the image itself: its path or its pixels.

    `segments` assigns every pixel to a segment; it is None for a model without a mask head. A
    notebook shows the drawn image.
    """

    segments: Segments | None = None
    path: Path | None = None
    image: UInt8[Tensor, "3 H W"] | None = field(default=None, repr=False)

    def draw(
        self,
        labels: bool | Sequence[str] = True,
        width: int | None = None,
        color_by: ColorBy | Sequence[int] = "class",
    ) -> Image.Image:
        """Return the image with every detection or segment drawn on it, as an RGB Pillow image.

        `labels` stand beside them: class names (True), none (False), or a string for each.
        `width` is that of lines, in pixels; the default suits the image. `color_by` gives each
        class, or each detection, a color of its own; or it is a number for each detection, by which
        boxes are colored. Raises DataError if the file can no longer be read, ConfigError for
        another number of labels.
        """
        if self.segments is None or not isinstance(color_by, str):
            return draw(self._pillow(), self, labels, width, color_by)
        return draw_segments(self._pillow(), self.segments, labels, width, color_by)

    def crop(self) -> list[Image.Image]:
        """Return the part of the image in each box, at least a pixel large.

        Raises DataError if the file can no longer be read.
        """
        image = self._pillow()
        return [image.crop(_whole_pixels(each.xyxy_px, image.size)) for each in self]

    def _pillow(self) -> Image.Image:
        pixels = self.image
        if pixels is None:
            assert self.path is not None, "a result has the pixels or the path of its image"
            pixels = read_image(self.path)
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())

    def _repr_png_(self) -> bytes | None:
        """Return the drawn image for a notebook, at most _NOTEBOOK_PX wide and high."""
        try:
            drawn = self.draw()
        except DataError:  # the file is gone, so the notebook shows the text
            return None
        drawn.thumbnail((_NOTEBOOK_PX, _NOTEBOOK_PX))
        file = BytesIO()
        drawn.save(file, format="PNG")
        return file.getvalue()


def _whole_pixels(xyxy_px: Rectangle, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the pixels that a box touches, at least one, all inside the image."""
    x0, y0, x1, y1 = xyxy_px
    left, right = _touched(x0, x1, size[0])
    top, bottom = _touched(y0, y1, size[1])
    return left, top, right, bottom


def _touched(low_px: float, high_px: float, side_px: int) -> tuple[int, int]:
    first = min(max(math.floor(low_px), 0), side_px - 1)
    return first, max(min(math.ceil(high_px), side_px), first + 1)


def detect_images(
    engine: Engine, count: int, read: Reader, options: PredictOptions
) -> Iterator[tuple[int, ImageResult | DataError]]:
    """Yield the number and result of each of `count` images, in any order.

    `read` returns the image of a number from 0 to `count` - 1. If it raises DataError, the error is
    yielded in place of a result. Results come as soon as a batch of one shape is full. However many
    shapes there are, only the images of a few batches are in memory at a time. Raises WeightsError
    if the model's outputs are not finite.
    """
    prepare = partial(preprocess, preprocessing=engine.card.preprocessing)
    for part in image_batches(count, read, prepare, options.batch_size, options.readers):
        if isinstance(part, UnreadImage):
            yield part.number, part.error
        else:
            yield from detect_loaded(engine, part, options)


def detect_loaded(
    engine: Engine, images: Sequence[LoadedImage[Tensor]], options: PredictOptions
) -> Iterator[tuple[int, ImageResult]]:
    """Yield the number and result of each of some images of one shape, in their order."""
    sizes_px = [(each.image.shape[1], each.image.shape[2]) for each in images]
    batch = Batch.from_images([each.pixels for each in images])
    found = detect_batch(engine, batch, sizes_px, [options] * len(images))
    for loaded, result in zip(images, found, strict=True):
        yield loaded.number, replace(result, image=loaded.image)


def detect_batch(
    engine: Engine,
    batch: Batch,
    sizes_px: Sequence[tuple[int, int]],
    options: Sequence[PredictOptions],
) -> list[ImageResult]:
    """Return the results of a batch without padding, without the images themselves.

    `sizes_px` are the (height, width) of the original images, and `options` those of each image;
    the segment threshold is that of the first. Raises WeightsError if the model's outputs are not
    finite.
    """
    output = sound_output(engine, batch, sizes_px)
    predictions = output.predictions
    thresholds = [each.thresholds(len(engine.card.categories)) for each in options]
    found = output.detections
    segments: list[Segments | None] = [None] * len(options)
    if predictions is not None and predictions.masks is not None:
        lowest = min(map(min, thresholds))
        found = detections_with_masks(engine, predictions, batch, sizes_px, lowest)
        if any(each.with_segments for each in options):
            least = options[0].segment_threshold
            merged = segments_of(engine, predictions, batch, sizes_px, least)
            segments = [
                each.of_classes(its.classes) if its.with_segments else None
                for each, its in zip(merged, options, strict=True)
            ]
    results = []
    for detected, least_scores, image_segments in zip(found, thresholds, segments, strict=True):
        kept = detected.above(torch.tensor(least_scores, dtype=torch.float32))
        results.append(
            ImageResult(
                kept.xyxy_px,
                kept.scores,
                kept.classes,
                kept.categories,
                kept.size_px,
                kept.masks,
                segments=image_segments,
            )
        )
    return results
