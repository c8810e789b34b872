"""COCO annotations without a flaw, from their text into arrays without a record of each.

A few hundred are decoded at a time: their Python objects fit into the processor's cache, and never
add up to several times the memory of the file.
"""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from setmatch.data.formats.coco.schema import CategoryRecord, ImageRecord
from setmatch.data.formats.columns import Records

_AT_ONCE = 256
_Id = Annotated[int, msgspec.Meta(gt=-(2**63))]


class _RunLengths(msgspec.Struct, gc=False):
    counts: str | list[int]
    size: tuple[int, int]


class _Annotation(msgspec.Struct, gc=False):
    id: _Id
    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    area: Annotated[float, msgspec.Meta(ge=0)]
    iscrowd: Literal[0, 1]
    segmentation: list[list[float]] | _RunLengths | None = None


class _File(msgspec.Struct):
    images: list[ImageRecord]
    categories: list[CategoryRecord]
    annotations: list[msgspec.Raw]


@dataclass(frozen=True, eq=False)
class Columns:
    """The annotations of a file, one row each: ids as in the file, polygons as flat arrays."""

    ids: Int64[np.ndarray, " R"]
    image_ids: Int64[np.ndarray, " R"]
    category_ids: Int64[np.ndarray, " R"]
    xywh_px: Float64[np.ndarray, "R 4"]
    area_px: Float64[np.ndarray, " R"]
    crowd: Bool[np.ndarray, " R"]
    points_px: Float32[np.ndarray, "P 2"]
    sides: Int64[np.ndarray, " polygons"]  # how many points each polygon has
    rings: Int64[np.ndarray, " R"]  # how many polygons each annotation has
    runs: Mapping[int, bytes]  # run lengths as JSON, by row


def parse_flawless(source: Path) -> tuple[Records, Records, Columns] | None:
    """Return categories, images and annotations of a COCO instances file.

    None when it is no such file, or when any annotation lacks what it should have, or has it in
    another form: then each must be looked at.
    """
    try:
        tree = msgspec.json.decode(source.read_bytes(), type=_File)
        columns = _columns(tree.annotations)
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError):
        return None
    if columns is None:
        return None
    images = Records(source, "images", tree.images)
    return Records(source, "categories", tree.categories), images, columns


def _columns(texts: Sequence[msgspec.Raw]) -> Columns | None:
    ids, image_ids, category_ids = (np.empty(len(texts), dtype=np.int64) for _ in range(3))
    xywh_px, area_px = np.empty((len(texts), 4)), np.empty(len(texts))
    crowd = np.empty(len(texts), dtype=bool)
    coordinates, lengths, rings = array("f"), array("q"), array("q")
    runs: dict[int, bytes] = {}
    decode = msgspec.json.Decoder(_Annotation).decode
    for start in range(0, len(texts), _AT_ONCE):
        records = map(decode, texts[start : start + _AT_ONCE])
        columns = list(zip(*map(msgspec.structs.astuple, records), strict=True))
        rows = slice(start, start + len(columns[0]))
        ids[rows], image_ids[rows], category_ids[rows], boxes, area_px[rows], crowd[rows] = columns[
            :6
        ]
        xywh_px[rows] = boxes
        segmentations = [_polygons(outline) for outline in columns[6]]
        polygons = list(chain.from_iterable(segmentations))
        rings.extend(map(len, segmentations))
        lengths.extend(map(len, polygons))
        for polygon in polygons:
            coordinates.extend(polygon)
        for row, outline in enumerate(columns[6], start):
            if type(outline) is _RunLengths:
                tree = {"counts": outline.counts, "size": list(outline.size)}
                runs[row] = json.dumps(tree).encode()
    sizes = np.frombuffer(lengths, dtype=np.int64)
    points = np.frombuffer(coordinates, dtype=np.float32)
    if ((sizes < 6) | (sizes % 2 == 1)).any() or not np.isfinite(points).all():
        return None
    return Columns(
        ids,
        image_ids,
        category_ids,
        xywh_px,
        area_px,
        crowd,
        points.reshape(-1, 2),
        sizes // 2,
        np.frombuffer(rings, dtype=np.int64),
        runs,
    )


def _polygons(outline: object) -> list[list[float]]:
    return outline if type(outline) is list else []
