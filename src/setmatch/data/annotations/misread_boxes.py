"""Judge over a whole file whether its boxes are of another convention than they were read by.

A single box rarely decides: 5, 16, 31, 43 may be corners or a position and a size. But of many
misread boxes, some leave their image by far, and none of them does in the right reading. Sound
boxes stay in their image, wherever they are and however large, so that nothing is ever held
against them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from jaxtyping import Bool, Float64, Int32

from setmatch.data.annotations.box_convention import BoxConvention, ConventionDoubt, Layout
from setmatch.data.annotations.boxes_in_pixels import to_xywh_px, to_xyxy_px

_TOLERANCE = 0.01  # of the image's side, by which a box may leave its image and count as inside
_TOLERANCE_PX = 1.5  # the same for small images: boxes are often rounded, or counted from 1
_LARGEST_FRACTION = 2.0  # larger numbers are pixels, or percent
_SUBPIXEL = 1.05  # if no number of a file is larger, its boxes are fractions
_MIN_SIDE_PX = 8  # of images, for the above
_LARGEST_PERCENT = 101.0  # larger numbers are pixels
_SPREAD_PERCENT = 70.0  # boxes in percent come at least this far to the right, or down
_MIN_PERCENT_PX = 200  # of images; a smaller one may have boxes in pixels over all of it
_FEWEST_MISFITS = 5  # that prove anything
_MANY_MISFITS = 20  # that do, even among thousands of boxes
_FEWEST_FRACTIONS = 3  # among all boxes of a file
_FEWEST_AREAS = 5
_AREA_TOLERANCE = 0.01


@dataclass(frozen=True)
class WrittenBoxes:
    """The numbers of the boxes as they are in a file; NaN for annotations that are no plain box."""

    values: Float64[np.ndarray, "A 4"]
    convention: BoxConvention  # by which they were read
    is_certain: bool = False  # True where the user has named the convention


def doubt_convention(
    written: WrittenBoxes,
    sizes_px: Int32[np.ndarray, "A 2"],
    area_px: Float64[np.ndarray, " A"],
    place: Callable[[int], str],
) -> ConventionDoubt | None:
    """Return why the boxes are probably of another convention; None where there is no reason.

    `sizes_px` are (height, width) of each box's image, `area_px` the objects' areas in the file.
    `place` describes where a row is.
    """
    rows = np.flatnonzero(np.isfinite(written.values).all(axis=1))
    if written.is_certain or not len(rows):
        return None
    boxes = _Boxes(written.values[rows], sizes_px[rows], area_px[rows])
    present = replace(written.convention, rows=None)
    found = _other_unit(boxes, present) or _other_layout(boxes, present)
    if found is None:
        return None
    likely, evidence, telling = found
    row = int(np.flatnonzero(telling)[0])
    return ConventionDoubt(
        likely=likely.difference_from(present),
        present=present.difference_from(likely),
        meaning=likely.meaning,
        evidence=evidence,
        example=f"{place(int(rows[row]))}: {boxes.both_ways(row, present, likely)}",
    )


@dataclass(frozen=True)
class _Boxes:
    values: Float64[np.ndarray, "N 4"]
    sizes_px: Int32[np.ndarray, "N 2"]
    area_px: Float64[np.ndarray, " N"]

    def misfits(self, convention: BoxConvention) -> Bool[np.ndarray, " N"]:
        """Return which boxes leave their image by far, or have negative size."""
        xyxy_px = to_xyxy_px(convention, self.values, self.sizes_px)
        sides_px = self.sizes_px[:, ::-1].astype(np.float64)
        tolerance_px = np.maximum(_TOLERANCE * sides_px, _TOLERANCE_PX)
        low, high = xyxy_px[:, :2], xyxy_px[:, 2:]
        wrong = (low < -tolerance_px) | (high > sides_px + tolerance_px) | (high < low)
        return np.asarray(wrong.any(axis=1))

    def has_given_area(self, convention: BoxConvention) -> Bool[np.ndarray, " N"]:
        """Return which boxes have the area that the file gives for the object."""
        extent_px = to_xywh_px(convention, self.values, self.sizes_px)[:, 2:]
        with np.errstate(over="ignore", invalid="ignore"):
            box_px = extent_px.prod(axis=1)
            near = np.abs(box_px - self.area_px) <= _AREA_TOLERANCE * self.area_px
        return np.asarray(near & (extent_px > 0).all(axis=1))

    def are_percent(self, in_percent: BoxConvention) -> bool:
        """Return whether boxes in pixels or percent are in percent.

        Its images are large, no number is above 100, and its boxes are not all at the left top.
        """
        largest = np.abs(self.values).max()
        large = self.sizes_px.min() >= _MIN_PERCENT_PX and largest <= _LARGEST_PERCENT
        spread = bool((self.values.max(axis=0)[:2] >= _SPREAD_PERCENT).all())
        return bool(large) and spread and not self.misfits(in_percent).any()

    def both_ways(self, row: int, present: BoxConvention, likely: BoxConvention) -> str:
        """Return the numbers of a box, and where it is in both readings."""
        height, width = self.sizes_px[row].tolist()
        numbers = ", ".join(f"{value:g}" for value in self.values[row].tolist())
        spans = []
        for convention in (present, likely):
            corners_px = to_xyxy_px(convention, self.values[[row]], self.sizes_px[[row]])
            x1, y1, x2, y2 = corners_px[0].tolist()
            spans.append(f"x {x1:.4g} to {x2:.4g}, y {y1:.4g} to {y2:.4g}")
        return (
            f"[{numbers}] is {spans[0]} of {width}×{height} pixels as it is read now, "
            f"and {spans[1]} if so"
        )


_Found = tuple[BoxConvention, str, Bool[np.ndarray, " N"]]  # likely, evidence, boxes that tell


def _other_unit(boxes: _Boxes, present: BoxConvention) -> _Found | None:
    largest = np.abs(boxes.values).max(axis=1)
    count = len(largest)
    if present.unit == "relative":
        telling = largest > _LARGEST_FRACTION
        if 2 * telling.sum() < count or not telling.any():
            return None
        in_percent, counts = _best_layout(boxes, replace(present, unit="percent"))
        if boxes.are_percent(in_percent):
            above = f"numbers above 2, and none has one above {_LARGEST_PERCENT - 1:.0f}"
            return in_percent, f"{telling.sum()} of {count} boxes have {above}; {counts}", telling
        likely, counts = _best_layout(boxes, replace(present, unit="pixels"))
        return likely, f"{telling.sum()} of {count} boxes have numbers above 2; {counts}", telling
    telling = largest <= _SUBPIXEL
    # A file of very small boxes has round numbers, such as 0, 0.5 and 1.
    has_digits = (4 * boxes.values % 1 != 0).any(axis=1)
    too_few = (telling & has_digits).sum() < _FEWEST_FRACTIONS or 10 * telling.sum() < 9 * count
    if too_few or boxes.sizes_px.min() <= _MIN_SIDE_PX:
        return None
    likely, counts = _best_layout(boxes, replace(present, unit="relative"))
    return likely, f"{telling.sum()} of {count} boxes have no number above 1; {counts}", telling


def _best_layout(boxes: _Boxes, convention: BoxConvention) -> tuple[BoxConvention, str]:
    """Return the convention in the layout with the fewest misfits, in doubt its own; and counts."""
    layouts = _layouts(convention)
    return min(layouts, key=lambda each: boxes.misfits(each).sum()), _counts(boxes, layouts)


def _counts(boxes: _Boxes, conventions: Sequence[BoxConvention]) -> str:
    counts = [f"{boxes.misfits(each).sum()} as {each.words}" for each in conventions]
    return f"of {len(boxes.values)} boxes, {', '.join(counts)} leave their image"


def _layouts(convention: BoxConvention) -> list[BoxConvention]:
    """Return the convention in every layout, its own first."""
    others = [layout for layout in get_args(Layout) if layout != convention.layout]
    # Corners before centers: hardly any other boxes have every second corner behind the first.
    others.sort(key=lambda layout: layout != "xyxy")
    return [convention, *(replace(convention, layout=layout) for layout in others)]


def _other_layout(boxes: _Boxes, present: BoxConvention) -> _Found | None:
    count = len(boxes.values)
    own, *others = _layouts(present)
    misfits = boxes.misfits(own)
    wrong = int(misfits.sum())
    likely = min(others, key=lambda each: boxes.misfits(each).sum())
    still_wrong = int(boxes.misfits(likely).sum())
    often = wrong >= _FEWEST_MISFITS and 10 * wrong > count and 10 * still_wrong <= wrong
    if not often and not (wrong >= _MANY_MISFITS and 20 * still_wrong <= wrong):
        return _other_area(boxes, present)
    return likely, _counts(boxes, [own, *others]), misfits & ~boxes.misfits(likely)


def _other_area(boxes: _Boxes, present: BoxConvention) -> _Found | None:
    """Judge by the areas, which some files have right although their boxes are corners."""
    count = len(boxes.values)
    corners = replace(present, layout="xyxy")
    right = boxes.has_given_area(corners)
    if present.layout != "xywh" or right.sum() < max(_FEWEST_AREAS, 0.95 * count):
        return None
    if boxes.has_given_area(present).sum() > 0.05 * count or boxes.misfits(corners).any():
        return None
    evidence = f"{right.sum()} of {count} areas are right for {corners.words}"
    return corners, evidence, right
