"""Panoptic segments of one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Int64, UInt8
from scipy import ndimage
from torch import Tensor

from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks


@dataclass(frozen=True, eq=False)
class Segments:
    """Panoptic segmentation of one image, at its original size.

    `ids` has the segment of every pixel, numbered from 1; 0 is unlabeled. Segment n has the class
    index `classes[n - 1]` and the score `scores[n - 1]`. All pixels of one stuff class are one
    segment.
    """

    ids: Int32[Tensor, "H W"]
    classes: Int[Tensor, " S"]
    scores: Float[Tensor, " S"]
    categories: Categories

    def __len__(self) -> int:
        return self.classes.shape[0]

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the image."""
        height, width = self.ids.shape
        return height, width

    def of_classes(self, wanted: frozenset[int] | None) -> "Segments":
        """Return the segments of some class indices, numbered anew; None stands for all."""
        if wanted is None:
            return self
        kept = [number for number, each in enumerate(self.classes.tolist()) if each in wanted]
        new_id = self.ids.new_zeros(len(self) + 1)
        for new, number in enumerate(kept, 1):
            new_id[number + 1] = new
        ids = new_id[self.ids.long()]
        return Segments(ids, self.classes[kept], self.scores[kept], self.categories)

    @property
    def area_px(self) -> Int64[Tensor, " S"]:
        """Number of pixels of every segment."""
        return self.ids.flatten().bincount(minlength=len(self) + 1)[1:]

    @property
    def things(self) -> Bool[Tensor, " S"]:
        """True for things, False for stuff."""
        class_indices = self.classes.tolist()
        return self.classes.new_tensor(
            [class_index not in self.categories.stuff for class_index in class_indices]
        ).bool()

    def masks(self) -> PackedMasks:
        """Return the mask of every segment."""
        numbers = self.ids.new_tensor(range(1, len(self) + 1))
        return PackedMasks.pack(self.ids == numbers[:, None, None])

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return COCO's `segments_info` with score and class name, ready for JSON.

        `bbox` is the tight (x, y, width, height) in pixels.
        """
        columns = (self.classes, self.scores, self.things, self.area_px)
        rows = zip(*(column.tolist() for column in columns), _boxes(self), strict=True)
        return [
            {
                "id": number,
                "category_id": self.categories.ids[class_index],
                "category_name": self.categories.name(class_index),
                "isthing": int(thing),
                "score": score,
                "area": area,
                "bbox": box,
                "iscrowd": 0,
            }
            for number, (class_index, score, thing, area, box) in enumerate(rows, 1)
        ]

    def to_pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the pixels of COCO's panoptic PNG; see `colors_of`."""
        return colors_of(self.ids.cpu().numpy())


def colors_of(ids: Int32[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Return segment ids as colors of COCO's panoptic PNG: id = red + 256 green + 256² blue."""
    bytes_of = np.ascontiguousarray(ids, dtype="<i4").view(np.uint8)
    return np.ascontiguousarray(bytes_of.reshape(*ids.shape, 4)[..., :3])


def _boxes(segments: Segments) -> list[list[int]]:
    """Return (x, y, width, height) of every segment; zeros for an empty segment."""
    windows = ndimage.find_objects(segments.ids.cpu().numpy(), max_label=len(segments))
    return [
        [0, 0, 0, 0]
        if window is None
        else [
            window[1].start,
            window[0].start,
            window[1].stop - window[1].start,
            window[0].stop - window[0].start,
        ]
        for window in windows
    ]
