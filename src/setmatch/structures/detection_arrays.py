"""Detections of one image as NumPy arrays, and what they have in common with tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from setmatch.structures.metadata import Categories


@runtime_checkable
class Numbers(Protocol):
    """An array or a tensor."""

    def tolist(self) -> Any:
        """Return the numbers as (nested) lists."""


@runtime_checkable
class DetectedBoxes(Protocol):
    """What drawing and writing need of detections, whatever library holds the numbers."""

    @property
    def xyxy_px(self) -> Numbers:
        """Boxes (N, 4) in pixels of the image."""

    @property
    def scores(self) -> Numbers:
        """Scores (N), descending."""

    @property
    def classes(self) -> Numbers:
        """Class indices (N)."""

    @property
    def categories(self) -> Categories:
        """The classes."""


def coco_rows(detections: DetectedBoxes) -> list[dict[str, Any]]:
    """Return a dictionary for each detection as in COCO results, with class names.

    `bbox` is (x, y, width, height) in pixels.
    """
    columns = (detections.xyxy_px, detections.scores, detections.classes)
    categories = detections.categories
    return [
        {
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": score,
            "category_id": categories.ids[class_index],
            "category_name": categories.name(class_index),
        }
        for (x0, y0, x1, y1), score, class_index in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """Detections of one image, by descending score, in pixels of the original image."""

    xyxy_px: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]
    classes: Int[np.ndarray, " N"]
    categories: Categories

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float | Sequence[float]) -> Self:
        """Return the detections with a score above `threshold`, or above that of their class."""
        least = np.asarray(threshold, np.float32)
        kept = self.scores > (least[self.classes] if least.ndim else least)
        return replace(
            self,
            xyxy_px=self.xyxy_px[kept],
            scores=self.scores[kept],
            classes=self.classes[kept],
        )
