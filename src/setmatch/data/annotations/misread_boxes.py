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
_LARGEST_PART = 1.01  # of percent or thousandths of the image; larger numbers are pixels
_FAR = 0.7  # of the image: boxes in such parts come at least so far to the right, and down
_MIN_PERCENT_PX = 200  # of images; a smaller one may have boxes in pixels over all of it
_FEWEST_MISFITS = 5  # that prove anything
_MANY_MISFITS = 20  # that do, even among thousands of boxes
_FEWEST_FRACTIONS = 3  # among all boxes of a file
_FEWEST_AREAS = 5  # and polygons
_AREA_TOLERANCE = 0.01


@dataclass(frozen=True)
class WrittenBoxes:
    """Boxes as they are in a file; NaN for annotations that are not a plain box."""

    values: Float64[np.ndarray, "A 4"]
    convention: BoxConvention  # by which they were read
    is_certain: bool = False  # True where the user has named the convention


def doubt_convention(
    written: WrittenBoxes,
    sizes_px: Int32[np.ndarray, "A 2"],
    area_px: Float64[np.ndarray, " A"],
    place: Callable[[int], str],
    hulls_xyxy_px: Float64[np.ndarray, "A 4"] | None = None,
) -> ConventionDoubt | None:
    """Return why the boxes are probably of another convention; None where there is no reason.

    `sizes_px` are (height, width) of each box's image, `area_px` the objects' areas in the file,
    `hulls_xyxy_px` the boxes around their polygons, NaN for objects without any. `place` describes
    where a row is.
    """
    rows = np.flatnonzero(np.isfinite(written.values).all(axis=1))
    if written.is_certain or not len(rows):
        return None
    hulls = np.full_like(written.values, np.nan) if hulls_xyxy_px is None else hulls_xyxy_px
    boxes = _Boxes(written.values[rows], sizes_px[rows], area_px[rows], hulls[rows])
    present = replace(written.convention, rows=None)
    found = _other_unit(boxes, present) or _other_layout(boxes, present)
    if found is None:
        return None
    likely, evidence, telling = found
    row = int(np.flatnonzero(telling)[0])
    y_first = replace(likely, layout="yxyx")
    fits_too = likely.layout == "xyxy" and boxes.fit_as_well(y_first, likely)
    return ConventionDoubt(
        likely=likely.difference_from(present),
        present=present.difference_from(likely),
        meaning=likely.meaning,
        evidence=evidence,
        example=f"{place(int(rows[row]))}: {boxes.both_ways(row, present, likely)}",
        y_first=y_first.difference_from(present) if fits_too else "",
    )


@dataclass(frozen=True)
class _Boxes:
    values: Float64[np.ndarray, "N 4"]
    sizes_px: Int32[np.ndarray, "N 2"]
    area_px: Float64[np.ndarray, " N"]
    hulls_xyxy_px: Float64[np.ndarray, "N 4"]

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

    def are_around_polygons(self, convention: BoxConvention) -> Bool[np.ndarray, " N"]:
        """Return which boxes are the boxes around the polygons of their objects."""
        off_px = np.abs(to_xyxy_px(convention, self.values, self.sizes_px) - self.hulls_xyxy_px)
        return np.asarray((off_px <= _TOLERANCE_PX).all(axis=1))  # never, where the hull is NaN

    def fit_as_well(self, one: BoxConvention, other: BoxConvention) -> bool:
        """Return whether neither misfits nor polygons tell two conventions apart."""
        around = [self.are_around_polygons(each).sum() for each in (one, other)]
        misfits = [self.misfits(each).sum() for each in (one, other)]
        return bool(misfits[0] <= misfits[1] and around[0] >= around[1])

    def may_be_parts(self, whole: float) -> bool:
        """Return whether no number is above the whole of the image, but some come near to it."""
        far = (self.values.max(axis=0)[:2] >= whole * _FAR).all()
        return bool(far) and bool(np.abs(self.values).max() <= whole * _LARGEST_PART)

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
        above = f"{telling.sum()} of {count} boxes have numbers above 2"
        in_percent, counts = _best_layout(boxes, replace(present, unit="percent"))
        large = boxes.sizes_px.min() >= _MIN_PERCENT_PX
        if large and boxes.may_be_parts(100) and not boxes.misfits(in_percent).any():
            return in_percent, f"{above}, and none has one above 100; {counts}", telling
        in_pixels, counts = _best_layout(boxes, replace(present, unit="pixels"))
        other = _thousandths(boxes, replace(present, unit="pixels"))
        return other or (in_pixels, f"{above}; {counts}", telling)
    telling = fractions_among(boxes.values, boxes.sizes_px)
    if 10 * telling.sum() >= 9 * count:
        likely, counts = _best_layout(boxes, replace(present, unit="relative"))
        return likely, f"{telling.sum()} of {count} boxes have no number above 1; {counts}", telling
    return _thousandths(boxes, present)


def fractions_among(
    values: Float64[np.ndarray, "N 4"], sizes_px: Int32[np.ndarray, "N 2"]
) -> Bool[np.ndarray, " N"]:
    """Return which boxes are probably fractions of the image, among boxes in pixels.

    They would be smaller than a pixel, at the left top of an image. If there are very few, none is.
    """
    small = np.abs(values).max(axis=1) <= _SUBPIXEL
    large = sizes_px.min(axis=1) > _MIN_SIDE_PX
    with np.errstate(over="ignore", invalid="ignore"):
        # A file of very small boxes has round numbers, such as 0, 0.5 and 1.
        has_digits = (4 * values % 1 != 0).any(axis=1)
    if (small & large & has_digits).sum() < _FEWEST_FRACTIONS:
        return np.zeros(len(values), dtype=bool)
    return np.asarray(small & large)


def corners_among(
    written: WrittenBoxes,
    sizes_px: Int32[np.ndarray, "N 2"],
    area_px: Float64[np.ndarray, " N"],
    hulls_xyxy_px: Float64[np.ndarray, "N 4"] | None,
) -> Bool[np.ndarray, " N"]:
    """Return which boxes are corners by their areas or polygons, where the others are not.

    Areas tell where nearly all of a file are those of its boxes; polygons where they lie in nearly
    all boxes so. If there are very few, none is.
    """
    present, corners = written.convention, replace(written.convention, layout="xyxy")
    hulls = np.full_like(written.values, np.nan) if hulls_xyxy_px is None else hulls_xyxy_px
    boxes = _Boxes(written.values, sizes_px, area_px, hulls)
    found = np.zeros(len(written.values), dtype=bool)
    if present.layout != "xywh":
        return found
    for judged, agrees in (
        (np.isfinite(area_px), boxes.has_given_area),
        (np.isfinite(hulls).all(axis=1), boxes.are_around_polygons),
    ):
        own = agrees(present)
        other = agrees(corners) & ~own
        count = judged.sum()
        few = other.sum() < max(_FEWEST_FRACTIONS, 0.01 * count)
        if not few and (own | other).sum() >= 0.9 * count:
            found |= other
    return found


def _thousandths(boxes: _Boxes, in_pixels: BoxConvention) -> _Found | None:
    """Judge whether boxes that leave their image, in any layout in pixels, are in thousandths."""
    convention = replace(in_pixels, unit="thousandths")
    if in_pixels.unit != "pixels" or not boxes.may_be_parts(convention.whole):
        return None
    misfits = [boxes.misfits(each) for each in _layouts(in_pixels)]
    fewest = min(int(each.sum()) for each in misfits)
    likely, counts = _best_layout(boxes, convention)
    many = fewest >= _FEWEST_MISFITS and 10 * fewest > len(boxes.values)
    if not many or boxes.misfits(likely).any():
        return None
    in_any = f"at least {fewest} leave their image in any layout in pixels"
    return likely, f"{counts}; {in_any}", misfits[0]


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
    by_polygons = _other_hull(boxes, present)
    if by_polygons is not None:
        return by_polygons
    count = len(boxes.values)
    corners = replace(present, layout="xyxy")
    right = boxes.has_given_area(corners)
    if present.layout != "xywh" or right.sum() < max(_FEWEST_AREAS, 0.95 * count):
        return None
    if boxes.has_given_area(present).sum() > 0.05 * count or boxes.misfits(corners).any():
        return None
    evidence = f"{right.sum()} of {count} areas are right for {corners.words}"
    return corners, evidence, right


def _other_hull(boxes: _Boxes, present: BoxConvention) -> _Found | None:
    """Judge by the polygons, around which the boxes lie in the right layout alone."""
    count = int(np.isfinite(boxes.hulls_xyxy_px).all(axis=1).sum())
    if count < _FEWEST_AREAS or boxes.are_around_polygons(present).sum() > 0.05 * count:
        return None
    for likely in _layouts(present)[1:]:
        around = boxes.are_around_polygons(likely)
        if around.sum() >= 0.95 * count:
            evidence = f"{around.sum()} of {count} boxes are those around their polygons if so"
            return likely, evidence, around
    return None
