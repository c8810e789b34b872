"""COCO boxes as they are meant: of another convention where the user says so, and turned ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import hotcoco
import msgspec
import numpy as np
from jaxtyping import Bool, Float64, Int32

from setmatch.data.annotations.box_convention import XYWH_PX, BoxConvention
from setmatch.data.annotations.boxes_in_pixels import to_xywh_px, turned_xywh_px
from setmatch.data.annotations.cleaning import NO_BOX, NO_ID, TURNED, AnnotationTable
from setmatch.data.annotations.misread_boxes import WrittenBoxes
from setmatch.data.annotations.rotations import TURNING, require_degrees, require_turns
from setmatch.data.annotations.segmentations import (
    Segmentations,
    normalized_run_lengths,
    run_lengths_flaw,
)
from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.build import ImageTable
from setmatch.data.formats.coco.box_notations import read_notation, read_sides
from setmatch.data.formats.coco.schema import AnnotationRecord
from setmatch.data.formats.columns import Records, is_quadruple
from setmatch.errors import short

# Polygons with larger coordinates are in pixels although boxes are not, in sides of the image.
_LARGEST_FRACTION = 2.0
_HULL_TOLERANCE_PX = 1.0


def written_boxes(rows: AnnotationTable, count: int, boxes: BoxConvention | None) -> WrittenBoxes:
    """Return the boxes of all `count` annotations as in the file, of those that `rows` has."""
    values = np.full((count, 4), np.nan)
    values[rows.origin] = rows.xywh_px
    return WrittenBoxes(values, boxes or XYWH_PX, is_certain=boxes is not None)


def in_convention(
    rows: AnnotationTable,
    segmentations: Segmentations | None,
    sizes_px: Int32[np.ndarray, "N 2"],
    boxes: BoxConvention | None,
) -> tuple[AnnotationTable, Segmentations | None]:
    """Return the rows with boxes in pixels, and areas that fit; of fractions, polygons in pixels.

    `rows` have the boxes as in the file, which are of the convention `boxes`; None is COCO's own.
    """
    if boxes is None or boxes == XYWH_PX:
        return rows, segmentations
    row_sizes_px = sizes_px[rows.image]
    xywh_px = to_xywh_px(boxes, rows.xywh_px, row_sizes_px)
    area_px = rows.area_px
    if boxes.unit != "pixels":
        height, width = row_sizes_px.T.astype(np.float64)
        unit_px = np.prod(boxes.scale_px(width, height), axis=0)
        area_px = np.where(area_px * unit_px <= height * width, area_px * unit_px, area_px)
        segmentations = segmentations and _in_pixels(rows, segmentations, row_sizes_px, boxes)
    with np.errstate(over="ignore", invalid="ignore"):
        # Areas are often computed from the box, by the wrong convention too.
        area_px = np.minimum(area_px, np.abs(xywh_px[:, 2:].prod(axis=1)))
    return replace(rows, xywh_px=xywh_px, area_px=area_px), segmentations


def _in_pixels(
    rows: AnnotationTable,
    segmentations: Segmentations,
    row_sizes_px: Int32[np.ndarray, "A 2"],
    boxes: BoxConvention,
) -> Segmentations:
    points = segmentations.points_px
    if not len(points) or np.abs(points).max() > _LARGEST_FRACTION * boxes.whole:
        return segmentations
    scale_px = np.ones((len(segmentations.rows), 2), dtype=np.float32)
    height, width = row_sizes_px.T.astype(np.float64)
    scale_px[rows.origin] = np.stack(boxes.scale_px(width, height), axis=1)
    points_per_annotation = np.diff(segmentations.ring_offsets[segmentations.offsets])
    return replace(segmentations, points_px=points * scale_px.repeat(points_per_annotation, axis=0))


def fill_boxes(
    records: Records,
    sizes_px: Mapping[int, tuple[int, int]],
    boxes: BoxConvention | None,
    fixes: list[AnnotationFix],
) -> dict[int, str]:
    """Give objects without a box the box around their segmentation; `sizes_px` are by image id.

    Boxes in other notations (see `box_notations`) are read first. Returns what the others have
    instead, by position; their box becomes NaN. Segmentations do not help where boxes are of
    another convention, since they may be of another unit, nor do boxes that name their sides.
    """
    filled, renoted, missing = [], [], {}
    for position, record in enumerate(records.rows):
        if is_quadruple(record.bbox):
            continue
        is_usual = boxes in (None, XYWH_PX)
        noted = read_notation(record.bbox) or (read_sides(record.bbox) if is_usual else None)
        if noted is not None:
            renoted.append(position)
            record.bbox = noted
            continue
        around = None
        if is_usual:
            size_px = sizes_px.get(record.image_id) if type(record.image_id) is int else None
            around = _box_around(record.segmentation, size_px)
        if around is None:
            missing[position] = f"bbox {short(record.bbox)}"
            record.bbox = [float("nan")] * 4
        else:
            filled.append(position)
            record.bbox = around
            record.rotation = record.angle = record.attributes = (
                None  # it is of the object as it is turned
            )
    if renoted:
        value = records.describe("bbox", renoted)
        fixes.append(AnnotationFix.of_many(value, "box in another notation: read"))
    if filled:
        value = records.describe("bbox", filled)
        fixes.append(AnnotationFix.of_many(value, "no box: the box around its segmentation"))
    return missing


def without_boxless(
    rows: AnnotationTable,
    missing: Mapping[int, str],
    names: Sequence[str],
    fixes: list[AnnotationFix],
) -> AnnotationTable:
    """Return the rows that have a box; record each other one in `fixes`."""
    boxless = np.isin(rows.origin, list(missing))
    for row in np.flatnonzero(boxless).tolist():
        id_ = None if rows.ids[row] == NO_ID else int(rows.ids[row])
        value = missing[int(rows.origin[row])]
        fixes.append(AnnotationFix(names[rows.image[row]], id_, value, NO_BOX))
    return rows.take(~boxless)


def _box_around(text: msgspec.Raw, size_px: tuple[int, int] | None) -> list[float] | None:
    """Return x, y, width and height of a segmentation; None where it shows nothing."""
    points = _points(text)
    if points is not None:
        low, high = points.min(axis=0), points.max(axis=0)
        return [*low.tolist(), *(high - low).tolist()]
    runs = normalized_run_lengths(bytes(text))
    if not runs or size_px is None or run_lengths_flaw(runs, size_px):
        return None
    box: list[float] = hotcoco.mask.to_bbox(json.loads(runs)).tolist()
    return box if min(box[2:]) > 0 else None


def _points(text: msgspec.Raw) -> Float64[np.ndarray, "P 2"] | None:
    """Return the points of all polygons of a segmentation; None for anything else."""
    try:
        polygons = msgspec.json.decode(text, type=list[list[float]])
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    whole = [each for each in polygons if len(each) >= 6 and not len(each) % 2]
    return np.concatenate([np.array(each).reshape(-1, 2) for each in whole]) if whole else None


@dataclass(frozen=True)
class Rotations:
    """By how many degrees each box is turned, and where `is_angle` an attribute `angle` says so."""

    source: Path
    degrees: Float64[np.ndarray, " A"]
    is_angle: Bool[np.ndarray, " A"]


def rotations(
    records: Records, rows: AnnotationTable, names: Sequence[str], fixes: list[AnnotationFix]
) -> Rotations:
    """Return by how many degrees each box is turned: `attributes.rotation`, as CVAT writes it.

    Other tools write `angle`, or write either beside the box. Raises DataError where angles may be
    radians.
    """
    degrees = np.zeros(len(rows.origin))
    is_angle = np.zeros(len(rows.origin), dtype=bool)
    given = []
    for row, origin in enumerate(rows.origin.tolist()):
        name, value = rotation_of(records.rows[origin])
        number = _number(value)
        if number is not None:
            degrees[row] = number
            is_angle[row] = name == "angle"
            given.append((name, number))
        elif value is not None:
            fixes.append(_fix(rows, row, names, value, "rotation that is not a number: read as 0"))
    require_degrees(records.file, given)
    return Rotations(records.file, degrees, is_angle)


def rotation_of(record: AnnotationRecord) -> tuple[str, object]:
    """Return the name and the value of what turns a box; None where nothing does.

    An angle that is not a number is something else, such as that of a view.
    """
    inside = record.attributes if type(record.attributes) is dict else {}
    small = {key.lower(): value for key, value in inside.items() if isinstance(key, str)}
    beside = {name: getattr(record, name) for name in TURNING}
    for places in (small, beside):
        for name in TURNING:
            value = places.get(name)
            if value is not None and (name != "angle" or _number(value) is not None):
                return name, value
    return TURNING[0], None


def _number(value: object) -> float | None:
    try:
        number = float(value) if type(value) in (int, float, str) else None  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return None
    return number if number is not None and np.isfinite(number) else None


def turn(
    rows: AnnotationTable,
    segmentations: Segmentations | None,
    rotations: Rotations,
    images: ImageTable,
    fixes: list[AnnotationFix],
) -> AnnotationTable:
    """Return the rows with the box around each turned box; record each in `fixes`.

    A box that is already the hull of its polygons stays: some tools write that one. Raises
    DataError where angles probably turn nothing.
    """
    degrees, names = rotations.degrees, images.names
    xywh_px = rows.xywh_px.copy()
    turned = []
    for row in np.flatnonzero(degrees % 180).tolist():
        box = rows.xywh_px[row]
        hull = turned_xywh_px(box[None], degrees[row : row + 1])[0]
        is_hull = segmentations is not None and _is_hull(segmentations, int(rows.origin[row]), box)
        if is_hull or (hull == box).all():
            continue
        xywh_px[row] = hull
        turned.append(row)
        fixes.append(_fix(rows, row, names, float(degrees[row]), TURNED))
    turned = [row for row in turned if rotations.is_angle[row]]
    sizes_px = images.sizes_px[rows.image[turned]]
    written_px, hulls_px = rows.xywh_px[turned], xywh_px[turned]
    require_turns(rotations.source, degrees[turned], written_px, hulls_px, sizes_px)
    return replace(rows, xywh_px=xywh_px)


def _is_hull(segmentations: Segmentations, origin: int, xywh_px: Float64[np.ndarray, "4"]) -> bool:
    """Return whether a box is the hull of polygons that are not just the box itself."""
    rings = segmentations.rings(origin)
    if not rings:
        return False
    points = np.concatenate(rings).astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    hull = np.concatenate([low, high - low])
    corners = np.unique(points[((points == low) | (points == high)).all(axis=1)], axis=0)
    is_rectangle = len(corners) == len(np.unique(points, axis=0)) == 4
    return bool((np.abs(hull - xywh_px) <= _HULL_TOLERANCE_PX).all()) and not is_rectangle


def _fix(
    rows: AnnotationTable, row: int, names: Sequence[str], value: object, done: str
) -> AnnotationFix:
    id_ = None if rows.ids[row] == NO_ID else int(rows.ids[row])
    return AnnotationFix(names[rows.image[row]], id_, f"rotation {short(value)}", done)
