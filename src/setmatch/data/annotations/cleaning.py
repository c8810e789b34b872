"""Clean annotations: which are left out, which are fixed, which only evaluation keeps."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from numpy.typing import NDArray

from setmatch.data.annotations.misread_boxes import (
    WrittenBoxes,
    corners_among,
    fractions_among,
)
from setmatch.data.dataset import AnnotationFix

NO_ID = -(2**63)
NO_LINE = 0
_ROUNDING_PX = 0.5  # a box may cross the edge by this much without being recorded
NOT_FINITE = "box not finite: left out"
NEGATIVE = "box of negative width or height: left out"
FLAT = "box without area: left out of training"
OUTSIDE = "box outside the image: left out of training"
CROSSES = "box crosses the image's edge: clipped in training"
SWAPPED = "corners swapped: put in order"
FRACTIONS = "box within a pixel at the left top, as if in fractions of the image: left out"
CORNERS = "box that is corners by its area or polygon, unlike most others: left out"
NO_BOX = "no box of four numbers, and no segmentation: left out"
# If more than a tenth of all boxes has one of these, it is not a flaw of single boxes.
BOX_FLAWS = (NO_BOX, NOT_FINITE, NEGATIVE, FLAT, OUTSIDE, CROSSES, SWAPPED, FRACTIONS, CORNERS)
# Those whose objects training does not see.
LOST_BOXES = (NO_BOX, NOT_FINITE, NEGATIVE, FLAT, OUTSIDE, FRACTIONS, CORNERS)
TURNED = "box turned by its rotation: read as the box around it"


@dataclass(frozen=True)
class AnnotationTable:
    """Annotations as in a file; `image` and `class_index` are positions in the data set."""

    ids: Int64[np.ndarray, " A"]  # NO_ID where the file has none
    image: Int64[np.ndarray, " A"]
    class_index: Int64[np.ndarray, " A"]
    xywh_px: Float64[np.ndarray, "A 4"]
    area_px: Float64[np.ndarray, " A"]
    crowd: Bool[np.ndarray, " A"]
    line: Int64[np.ndarray, " A"]  # NO_LINE where the file is not a text file
    origin: Int64[np.ndarray, " A"]  # position among all annotations read

    def take(self, chosen: NDArray[Any]) -> "AnnotationTable":
        """Return the rows chosen by a boolean mask or by positions."""
        return AnnotationTable(*(getattr(self, field.name)[chosen] for field in fields(self)))


def clean_annotations(
    rows: AnnotationTable, names: list[str], sizes_px: Int32[np.ndarray, "N 2"]
) -> tuple[AnnotationTable, list[AnnotationFix]]:
    """Return the usable rows, and a fix for each odd one.

    Left out are boxes that are not finite or have negative size, and copies of a row. Rows whose id
    is absent or taken get a free one. Kept for evaluation, while `DetectionDataset.target` clips
    them or leaves them out, are boxes without area and boxes beyond the image's edge. The same box
    and class under another id is kept and only recorded. `names` are the files that the
    annotations of each image come from.
    """
    fixes: list[AnnotationFix] = []

    def note(wrong: Bool[np.ndarray, " A"], done: str) -> None:
        fixes.extend(_fix(rows, row, names, done) for row in np.flatnonzero(wrong).tolist())

    for flaw, done in (
        (_not_finite, NOT_FINITE),
        (_negative, NEGATIVE),
        (_is_copy, "listed twice: read once"),
    ):
        wrong = flaw(rows)
        note(wrong, done)
        rows = rows.take(~wrong)
    needs_id = _lacks_own_id(rows.ids)
    note(needs_id, "id absent or taken: given a free one")
    rows = replace(rows, ids=_with_free_ids(rows.ids, needs_id))
    flat = (rows.xywh_px[:, 2:] == 0).any(axis=1)
    note(flat, FLAT)
    outside, crosses = _beyond_edge(rows, sizes_px)
    note(_repeats_box(rows), "the same box and class again: kept")
    note(outside & ~flat, OUTSIDE)
    note(crosses & ~outside & ~flat, CROSSES)
    return rows, fixes


def without_other_conventions(
    written: WrittenBoxes,
    rows: AnnotationTable,
    names: list[str],
    sizes_px: Int32[np.ndarray, "N 2"],
    hulls_xyxy_px: Float64[np.ndarray, "A 4"] | None = None,
) -> tuple[AnnotationTable, list[AnnotationFix]]:
    """Return the rows without those of fractions or corners among others, and a fix for each.

    Two tools may have written a file. `written` are the boxes of the rows as they are in the file,
    `hulls_xyxy_px` the boxes around their polygons, NaN for those without any.
    """
    if written.is_certain or written.convention.unit != "pixels":
        return rows, []
    of_image_px = sizes_px[rows.image]
    fractions = fractions_among(written.values, of_image_px)
    corners = ~fractions & corners_among(written, of_image_px, rows.area_px, hulls_xyxy_px)
    fixes = [
        _fix(rows, row, names, done)
        for odd, done in ((fractions, FRACTIONS), (corners, CORNERS))
        for row in np.flatnonzero(odd).tolist()
    ]
    return (rows.take(~(fractions | corners)) if fixes else rows), fixes


def _fix(rows: AnnotationTable, row: int, names: list[str], done: str) -> AnnotationFix:
    id_ = int(rows.ids[row])
    box = ", ".join(f"{side:g}" for side in rows.xywh_px[row].tolist())
    line = int(rows.line[row])
    shown_id = id_ if id_ != NO_ID and line == NO_LINE else None
    shown_line = None if line == NO_LINE else line
    return AnnotationFix(names[rows.image[row]], shown_id, f"bbox [{box}]", done, shown_line)


def _not_finite(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    x, y, width, height = rows.xywh_px.T
    with np.errstate(over="ignore", invalid="ignore"):
        # Far corner and area too: 1e300 is finite, but its square is not.
        return ~np.isfinite((x + width) + (y + height) + width * height)


def _negative(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    return np.asarray((rows.xywh_px[:, 2:] < 0).any(axis=1))


def _is_copy(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    """Return which rows repeat an earlier row, id included."""
    copies = np.zeros(len(rows.ids), dtype=bool)
    _, inverse, counts = np.unique(rows.ids, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero((counts[inverse] > 1) & (rows.ids != NO_ID))
    if len(candidates):
        columns = [rows.ids, rows.image, rows.class_index, *rows.xywh_px.view(np.int64).T]
        values = np.stack([column[candidates] for column in columns], axis=1)
        _, first = np.unique(values, axis=0, return_index=True)
        copies[np.delete(candidates, first)] = True
    return copies


def _repeats_box(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    """Return which rows have the image, class and box of an earlier row."""
    # Sorting one hash per row is quick; only rows whose hashes collide are compared in full.
    columns = [rows.image, rows.class_index, rows.crowd, *rows.xywh_px.T]
    hashes = np.zeros(len(rows.ids), dtype=np.uint64)
    for column in columns:
        bits = np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)
        hashes = (hashes ^ bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(counts[inverse] > 1)
    repeats = np.zeros(len(rows.ids), dtype=bool)
    if len(candidates):
        values = np.stack([column[candidates].astype(np.float64) for column in columns], axis=1)
        _, first = np.unique(values, axis=0, return_index=True)
        repeats[np.delete(candidates, first)] = True
    return repeats


def _lacks_own_id(ids: Int64[np.ndarray, " A"]) -> Bool[np.ndarray, " A"]:
    needs_id = np.ones(len(ids), dtype=bool)
    needs_id[np.unique(ids, return_index=True)[1]] = False
    return needs_id | (ids == NO_ID)


def _with_free_ids(
    ids: Int64[np.ndarray, " A"], needs_id: Bool[np.ndarray, " A"]
) -> Int64[np.ndarray, " A"]:
    if not needs_id.any():
        return ids
    free = np.setdiff1d(np.arange(1, len(ids) + 1 + needs_id.sum()), ids)
    ids = ids.copy()
    ids[needs_id] = free[: needs_id.sum()]
    return ids


def _beyond_edge(
    rows: AnnotationTable, sizes_px: Int32[np.ndarray, "N 2"]
) -> tuple[Bool[np.ndarray, " A"], Bool[np.ndarray, " A"]]:
    """Return which boxes lie outside their image, and which cross its edge."""
    size = sizes_px[rows.image][:, ::-1]
    low, high = rows.xywh_px[:, :2], rows.xywh_px[:, :2] + rows.xywh_px[:, 2:]
    outside = (high <= 0) | (low >= size)
    crosses = (low < -_ROUNDING_PX) | (high > size + _ROUNDING_PX)
    return np.asarray(outside.any(axis=1)), np.asarray(crosses.any(axis=1))
