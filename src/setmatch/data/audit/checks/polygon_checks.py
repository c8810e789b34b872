"""Checks of polygons: whether they lie where the box of their object is."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64

from setmatch.data.annotations.segmentations import Segmentations
from setmatch.data.audit.checks.mask_checks import MASKS_ONLY
from setmatch.data.audit.findings import Finding, Severity
from setmatch.data.dataset import DetectionDataset

_INSIDE = 0.5  # of the extent of an object's polygons that lies in its box, at least
_TOLERANCE_PX = 2.0  # by which polygons may leave a small box
_MANY = 0.1  # of all polygons: then the file is wrong, not a few objects
_FEWEST = 3


def check_polygons(split: str, dataset: DetectionDataset) -> Iterator[Finding]:
    """Yield the objects whose polygons lie outside of their box.

    If they are a tenth of all or more, probably the images and their boxes were resized but not the
    polygons, or the polygons are those of other objects.
    """
    if dataset.segmentations is None:
        return
    elsewhere, count = polygons_elsewhere(dataset.segmentations, dataset.xywh_px)
    rows = np.flatnonzero(elsewhere & ~dataset.crowd)
    severity: Severity = "note"
    action = f"{MASKS_ONLY}correct the polygons or the box"
    if len(rows) >= max(_FEWEST, _MANY * count):
        severity = "error"
        action += "; as they are many, were the images or the boxes resized and the polygons not?"
    images = np.searchsorted(dataset.offsets, rows, side="right") - 1
    for row, image in zip(rows.tolist(), images.tolist(), strict=True):
        yield Finding(
            severity,
            "polygons outside of their box",
            action,
            split,
            dataset.name(image),
            int(dataset.annotation_ids[row]),
            value=f"box at {', '.join(f'{side:.4g}' for side in dataset.xywh_px[row].tolist())}",
        )


def polygons_elsewhere(
    segmentations: Segmentations, xywh_px: Float64[np.ndarray, "A 4"]
) -> tuple[Bool[np.ndarray, " A"], int]:
    """Return which objects have polygons mostly outside of their box, and how many have polygons.

    Compared are the boxes around all polygons of an object: a box may be larger, as that of a
    partly hidden object is.
    """
    first_points = segmentations.ring_offsets[segmentations.offsets]
    read = np.flatnonzero(np.diff(first_points))  # annotations with points, as they were read
    extents = np.full((len(first_points) - 1, 2, 2), np.nan)
    if len(read):
        starts, points = first_points[read], segmentations.points_px
        extents[read, 0] = np.minimum.reduceat(points, starts)
        extents[read, 1] = np.maximum.reduceat(points, starts)
    low, high = extents[segmentations.rows].transpose(1, 0, 2)
    box_low = xywh_px[:, :2] - _TOLERANCE_PX
    box_high = xywh_px[:, :2] + xywh_px[:, 2:] + _TOLERANCE_PX
    shared = np.clip(np.minimum(high, box_high) - np.maximum(low, box_low), 0, None)
    # Objects without polygons have NaN here, which is neither more nor less.
    elsewhere = shared.prod(axis=1) < _INSIDE * (high - low).prod(axis=1)
    # Polygons without area: outside, if they do not touch the box.
    apart = (np.minimum(high, box_high) < np.maximum(low, box_low)).any(axis=1)
    return elsewhere | apart, int(np.isfinite(low).all(axis=1).sum())
