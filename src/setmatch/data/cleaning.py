"""Odd annotations: which are left out, which are mended, which only the evaluation keeps."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from numpy.typing import NDArray

from setmatch.data.dataset import AnnotationFix

NO_ID = -(2**63)
NO_LINE = 0
_ROUNDING_PX = 0.5  # boxes may pass the edge by this much without being called odd


@dataclass(frozen=True)
class AnnotationTable:
    """Annotations as a file has them; `image` and `class_index` are positions in the data set."""

    ids: Int64[np.ndarray, " A"]  # NO_ID where there is none
    image: Int64[np.ndarray, " A"]
    class_index: Int64[np.ndarray, " A"]
    xywh_px: Float64[np.ndarray, "A 4"]
    area_px: Float64[np.ndarray, " A"]
    crowd: Bool[np.ndarray, " A"]
    line: Int64[np.ndarray, " A"]  # NO_LINE where the file does not count lines
    origin: Int64[np.ndarray, " A"]  # position among all that were read

    def take(self, chosen: NDArray[Any]) -> "AnnotationTable":
        """Return the rows that a boolean or position array chooses."""
        return AnnotationTable(*(getattr(self, field.name)[chosen] for field in fields(self)))


def clean_annotations(
    rows: AnnotationTable, names: list[str], sizes_px: Int32[np.ndarray, "N 2"]
) -> tuple[AnnotationTable, list[AnnotationFix]]:
    """Return the rows that training and evaluation can use, and a Repair for each odd one.

    Left out: boxes that are not finite, of negative size, and copies. Given a free id: rows whose
    id is absent or taken. Kept as they are, for `DetectionDataset.target` to clip or leave out:
    boxes without
    area, and boxes that pass the image's edge. Kept and only noted: the same box and class again
    under another id. `names` are those of the files that each image's annotations come from.
    """
    fixes: list[AnnotationFix] = []

    def note(wrong: Bool[np.ndarray, " A"], done: str) -> None:
        fixes.extend(_describe(rows, row, names, done) for row in np.flatnonzero(wrong).tolist())

    for flaw, done in (
        (_not_finite, "box not finite: left out"),
        (_negative, "box of negative width or height: left out"),
        (_copy, "listed twice: read once"),
    ):
        wrong = flaw(rows)
        note(wrong, done)
        rows = rows.take(~wrong)
    nameless = _nameless(rows.ids)
    note(nameless, "id absent or taken: given a free one")
    rows = replace(rows, ids=_with_free_ids(rows.ids, nameless))
    flat = (rows.xywh_px[:, 2:] == 0).any(axis=1)
    note(flat, "box without area: left out of training")
    outside, over = _edges(rows, sizes_px)
    note(_again(rows), "the same box and class again: kept")
    note(outside & ~flat, "box outside the image: left out of training")
    note(over & ~outside & ~flat, "box passes the image's edge: clipped in training")
    return rows, fixes


def _describe(rows: AnnotationTable, row: int, names: list[str], done: str) -> AnnotationFix:
    id_ = int(rows.ids[row])
    box = ", ".join(f"{side:g}" for side in rows.xywh_px[row].tolist())
    line = int(rows.line[row])
    known = id_ if id_ != NO_ID and line == NO_LINE else None
    place = None if line == NO_LINE else line
    return AnnotationFix(names[rows.image[row]], known, f"bbox [{box}]", done, place)


def _not_finite(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    x, y, width, height = rows.xywh_px.T
    with np.errstate(over="ignore", invalid="ignore"):
        # Corners and area as well: 1e300 is finite, but its square is not.
        return ~np.isfinite((x + width) + (y + height) + width * height)


def _negative(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    return np.asarray((rows.xywh_px[:, 2:] < 0).any(axis=1))


def _copy(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    """Return which rows say again what a row before them said, id included."""
    copies = np.zeros(len(rows.ids), dtype=bool)
    _, inverse, counts = np.unique(rows.ids, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero((counts[inverse] > 1) & (rows.ids != NO_ID))
    if len(suspects):
        columns = [rows.ids, rows.image, rows.class_index, *rows.xywh_px.view(np.int64).T]
        said = np.stack([column[suspects] for column in columns], axis=1)
        _, first = np.unique(said, axis=0, return_index=True)
        copies[np.delete(suspects, first)] = True
    return copies


def _again(rows: AnnotationTable) -> Bool[np.ndarray, " A"]:
    """Return which rows have the image, class and box of a row before them."""
    # Sorting one number a row is quick; only rows whose numbers meet are compared in full.
    columns = [rows.image, rows.class_index, rows.crowd, *rows.xywh_px.T]
    mixed = np.zeros(len(rows.ids), dtype=np.uint64)
    for column in columns:
        bits = np.ascontiguousarray(column, dtype=np.float64).view(np.uint64)
        mixed = (mixed ^ bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    _, inverse, counts = np.unique(mixed, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[inverse] > 1)
    again = np.zeros(len(rows.ids), dtype=bool)
    if len(suspects):
        said = np.stack([column[suspects].astype(np.float64) for column in columns], axis=1)
        _, first = np.unique(said, axis=0, return_index=True)
        again[np.delete(suspects, first)] = True
    return again


def _nameless(ids: Int64[np.ndarray, " A"]) -> Bool[np.ndarray, " A"]:
    nameless = np.ones(len(ids), dtype=bool)
    nameless[np.unique(ids, return_index=True)[1]] = False
    return nameless | (ids == NO_ID)


def _with_free_ids(
    ids: Int64[np.ndarray, " A"], nameless: Bool[np.ndarray, " A"]
) -> Int64[np.ndarray, " A"]:
    if not nameless.any():
        return ids
    free = np.setdiff1d(np.arange(1, len(ids) + 1 + nameless.sum()), ids)
    ids = ids.copy()
    ids[nameless] = free[: nameless.sum()]
    return ids


def _edges(
    rows: AnnotationTable, sizes_px: Int32[np.ndarray, "N 2"]
) -> tuple[Bool[np.ndarray, " A"], Bool[np.ndarray, " A"]]:
    """Return which boxes lie outside their image, and which pass its edge."""
    size = sizes_px[rows.image][:, ::-1]
    low, high = rows.xywh_px[:, :2], rows.xywh_px[:, :2] + rows.xywh_px[:, 2:]
    outside = (high <= 0) | (low >= size)
    over = (low < -_ROUNDING_PX) | (high > size + _ROUNDING_PX)
    return np.asarray(outside.any(axis=1)), np.asarray(over.any(axis=1))
