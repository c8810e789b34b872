"""Decode object masks: from polygons, COCO run lengths, or panoptic PNG files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import torch
from jaxtyping import Bool, Int, Int32, Int64

from setmatch.data.annotations.segmentations import Segmentations
from setmatch.data.images.decoding import other_size
from setmatch.data.images.image_io import read_image
from setmatch.data.images.unreadable import UnreadableError
from setmatch.errors import DataError


def segmentation_masks(
    segmentations: Segmentations, annotations: Sequence[int], size_px: tuple[int, int]
) -> Bool[np.ndarray, "M H W"]:
    """Return the masks of some annotations of an image of (height, width) `size_px`.

    An annotation without a segmentation has an empty mask. Polygons are filled as COCO's own tools
    do. Raises DataError for run lengths that cannot be read or have another size.
    """
    if not annotations:
        return np.zeros((0, *size_px), dtype=bool)
    runs = [_run_lengths(segmentations, annotation, size_px) for annotation in annotations]
    try:
        filled = hotcoco.mask.decode(runs)
    except (TypeError, ValueError) as error:
        raise DataError(f"run lengths cannot be read: {error}") from None
    return np.ascontiguousarray(filled.transpose(2, 0, 1)).view(np.bool_)


def _run_lengths(
    segmentations: Segmentations, annotation: int, size_px: tuple[int, int]
) -> dict[str, Any]:
    text = segmentations.run_lengths(annotation)
    if text:
        runs: dict[str, Any] = json.loads(text)
        if runs["size"] != list(size_px):
            size = "×".join(map(str, runs["size"]))
            raise DataError(
                f"run lengths of {size} pixels, but the image has {size_px[0]}×{size_px[1]}"
            )
        return runs
    rings = segmentations.rings(annotation)
    if not rings:
        return {"size": list(size_px), "counts": [size_px[0] * size_px[1]]}
    polygons = [ring.reshape(-1).tolist() for ring in rings]
    return hotcoco.mask.merge(hotcoco.mask.fr_py_objects(polygons, *size_px))


def segment_masks(
    png: Path, segment_ids: Int[np.ndarray, " M"], size_px: tuple[int, int]
) -> Bool[np.ndarray, "M H W"]:
    """Return the masks of some segments of a panoptic PNG; a segment it lacks has an empty mask.

    Raises DataError as `read_segment_ids` does.
    """
    pixel_ids = read_segment_ids(png, size_px)
    return np.asarray(pixel_ids == segment_ids.astype(np.int32)[:, None, None])


def read_segment_ids(png: Path, size_px: tuple[int, int]) -> Int32[np.ndarray, "H W"]:
    """Read the segment id of each pixel of a panoptic PNG: red + 256 green + 256² blue.

    0 is no segment. Raises DataError when the file cannot be read, or is not of `size_px`.
    """
    red, green, blue = read_image(png, size_px).to(torch.int32)
    if red.shape != size_px:
        height, width = red.shape
        advice = "draw the segments in the size of the image"
        raise UnreadableError(other_size(png, (height, width), size_px, advice))
    return (red + (green << 8) + (blue << 16)).numpy()


def renumber_segments(
    pixel_ids: Int32[np.ndarray, "H W"], segment_ids: Int[np.ndarray, " S"]
) -> Int32[np.ndarray, "H W"]:
    """Return each pixel's segment as its position in `segment_ids`, from 1; 0 for any other id."""
    if not len(segment_ids):
        return np.zeros_like(pixel_ids)
    # One lookup per run of equal pixels: there are 20 times fewer runs than pixels.
    flat = pixel_ids.ravel()
    starts = run_starts(flat)
    colors = flat[starts]
    order = segment_ids.argsort()
    place = np.searchsorted(segment_ids, colors, sorter=order).clip(max=len(order) - 1)
    number = order[place]
    known = np.where(segment_ids[number] == colors, number + 1, 0).astype(np.int32)
    return np.repeat(known, np.diff(starts, append=len(flat))).reshape(pixel_ids.shape)


def run_starts(*images: Int32[np.ndarray, " P"]) -> Int64[np.ndarray, " R"]:
    """Return where runs start: stretches of pixels that are constant in each of the flat images."""
    starts = np.ones(len(images[0]), dtype=bool)
    starts[1:] = False
    for image in images:
        starts[1:] |= image[1:] != image[:-1]
    return np.flatnonzero(starts)
