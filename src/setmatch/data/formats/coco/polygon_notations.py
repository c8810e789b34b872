"""COCO polygons that are written otherwise than as lists of x, y, x, y, ...: by points, or flat."""

from typing import Any

import msgspec

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.columns import Records

_LEAST_POINTS = 3


def as_polygons(value: Any) -> list[list[float]] | None:
    """Return the polygons of a segmentation in another notation; None for COCO's own, and others.

    Those are one polygon as x, y, x, y, ...; one as points; and several as points each.
    """
    if not isinstance(value, list):
        return None
    if len(value) >= 2 * _LEAST_POINTS and len(value) % 2 == 0 and all(map(_is_number, value)):
        return [list(value)]
    if _are_points(value):
        return [[number for point in value for number in point]]
    if value and all(map(_are_points, value)):
        return [[number for point in polygon for number in point] for polygon in value]
    return None


def _are_points(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= _LEAST_POINTS
        and all(isinstance(point, list) and len(point) == 2 for point in value)
        and all(_is_number(number) for point in value for number in point)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def rewrite_polygons(records: Records, fixes: list[AnnotationFix]) -> None:
    """Give annotations whose polygons are in another notation COCO's own; record it in `fixes`."""
    rewritten = []
    for position, record in enumerate(records.rows):
        try:
            polygons = as_polygons(msgspec.json.decode(record.segmentation))
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            continue  # what cannot be read is reported with the segmentations
        if polygons is not None:
            record.segmentation = msgspec.Raw(msgspec.json.encode(polygons))
            rewritten.append(position)
    if rewritten:
        value = records.describe("segmentation", rewritten)
        fixes.append(AnnotationFix.of_many(value, "polygons as points, or flat: read"))
