"""The pixels of annotated objects: from polygons, COCO's run lengths, or panoptic PNG files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64

from setmatch.data.image_io import read_image
from setmatch.data.segmentations import Segmentations
from setmatch.errors import DataError


def outline_masks(
    segmentations: Segmentations, annotations: Sequence[int], size_px: tuple[int, int]
) -> Bool[np.ndarray, "M H W"]:
    """Fill the segmentations of some annotations of an image of (height, width) `size_px`.

    An annotation without an outline has no pixels. Polygons are filled as COCO's own tools do.
    Raises DataError for run lengths that cannot be read or are of another size.
    """
    if not annotations:
        return np.zeros((0, *size_px), dtype=bool)
    runs = [_runs(segmentations, annotation, size_px) for annotation in annotations]
    try:
        filled = hotcoco.mask.decode(runs)
    except (TypeError, ValueError) as error:
        raise DataError(f"run lengths cannot be read: {error}") from None
    return np.ascontiguousarray(filled.transpose(2, 0, 1)).view(np.bool_)


def _runs(
    segmentations: Segmentations, annotation: int, size_px: tuple[int, int]
) -> dict[str, Any]:
    written = segmentations.run_lengths(annotation)
    if written:
        runs: dict[str, Any] = json.loads(written)
        if runs["size"] != list(size_px):
            size = "×".join(map(str, runs["size"]))
            raise DataError(f"run lengths of {size} pixels, image of {size_px[0]}×{size_px[1]}")
        return runs
    rings = segmentations.rings(annotation)
    if not rings:
        return {"size": list(size_px), "counts": [size_px[0] * size_px[1]]}
    polygons = [ring.reshape(-1).tolist() for ring in rings]
    return hotcoco.mask.merge(hotcoco.mask.fr_py_objects(polygons, *size_px))


def segment_masks(
    png: Path, segment_ids: Int[np.ndarray, " M"], size_px: tuple[int, int]
) -> Bool[np.ndarray, "M H W"]:
    """Return the pixels of some segments of a panoptic PNG; one that it lacks has none.

    Raises DataError as `read_segment_ids` does.
    """
    drawn = read_segment_ids(png, size_px)
    return np.asarray(drawn == segment_ids.astype(np.int32)[:, None, None])


def read_segment_ids(png: Path, size_px: tuple[int, int]) -> Int32[np.ndarray, "H W"]:
    """Read a panoptic PNG: every pixel's segment id, red + 256 green + 256² blue; 0 is nothing.

    Raises DataError with the file's name when it cannot be read, or is not of `size_px`.
    """
    red, green, blue = read_image(png, size_px).to(torch.int32)
    if red.shape != size_px:
        height, width = red.shape
        raise DataError(
            f"{png}: is {height}×{width} pixels (height × width), its image "
            f"{size_px[0]}×{size_px[1]}; segments must be drawn in the size of the image"
        )
    return (red + (green << 8) + (blue << 16)).numpy()


def numbered(
    drawn: Int32[np.ndarray, "H W"], segment_ids: Int[np.ndarray, " S"]
) -> Int32[np.ndarray, "H W"]:
    """Return every pixel's segment by its place in `segment_ids`, from 1; 0 for all others."""
    if not len(segment_ids):
        return np.zeros_like(drawn)
    # Looked up once for a run of equal pixels, which are twenty times fewer than the pixels.
    flat = drawn.ravel()
    starts = run_starts(flat)
    colors = flat[starts]
    order = segment_ids.argsort()
    place = np.searchsorted(segment_ids, colors, sorter=order).clip(max=len(order) - 1)
    number = order[place]
    known = np.where(segment_ids[number] == colors, number + 1, 0).astype(np.int32)
    return np.repeat(known, np.diff(starts, append=len(flat))).reshape(drawn.shape)


def run_starts(*pictures: Int32[np.ndarray, " P"]) -> Int64[np.ndarray, " R"]:
    """Return where runs begin: pixels in a row, in each picture all of one segment."""
    begins = np.ones(len(pictures[0]), dtype=bool)
    begins[1:] = False
    for picture in pictures:
        begins[1:] |= picture[1:] != picture[:-1]
    return np.flatnonzero(begins)
