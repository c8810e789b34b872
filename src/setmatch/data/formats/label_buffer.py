"""Annotations collected file by file, for formats that have one file for each image."""

from array import array
from collections.abc import Sequence

import numpy as np

from setmatch.data.cleaning import AnnotationTable
from setmatch.data.segmentations import Segmentations, from_rings


class AnnotationBuffer:
    """Columns that grow, in arrays of plain numbers rather than lists of objects."""

    def __init__(self) -> None:
        self._images = array("q")
        self._slots = array("q")
        self._xywh = array("d")
        self._lines = array("q")
        self.crowds = array("b")
        self._points = array("f")
        self._sides = array("q")
        self._rings = array("q")

    def add(
        self,
        image: int,
        class_index: int,
        xywh_px: tuple[float, float, float, float],
        line: int,
        crowd: bool = False,
    ) -> None:
        """Add an object of image number `image`, found at `line` of its file."""
        self._images.append(image)
        self._slots.append(class_index)
        self._xywh.extend(xywh_px)
        self._lines.append(line)
        self.crowds.append(crowd)
        self._rings.append(0)

    def add_ring(self, points_px: Sequence[float]) -> None:
        """Add a polygon x, y, x, y, ... to the object that was added last."""
        self._points.extend(points_px)
        self._sides.append(len(points_px) // 2)
        self._rings[-1] += 1

    def rows(self) -> AnnotationTable:
        """Return the objects; ids count from 1, areas are those of the boxes."""
        xywh_px = np.array(self._xywh, dtype=np.float64).reshape(-1, 4)
        count = len(xywh_px)
        with np.errstate(over="ignore", invalid="ignore"):
            area_px = xywh_px[:, 2] * xywh_px[:, 3]
        return AnnotationTable(
            ids=np.arange(1, count + 1),
            image=np.array(self._images, dtype=np.int64),
            class_index=np.array(self._slots, dtype=np.int64),
            xywh_px=xywh_px,
            area_px=area_px,
            crowd=np.array(self.crowds, dtype=bool),
            line=np.array(self._lines, dtype=np.int64),
            origin=np.arange(count),
        )

    def segmentations(self) -> Segmentations | None:
        """Return the polygons; None where no object has any."""
        points_px = np.array(self._points, dtype=np.float32).reshape(-1, 2)
        return from_rings(points_px, self._sides, self._rings)
