"""Parse flawless COCO annotations straight into arrays, without keeping a record of each.

A few hundred annotations are decoded at a time. Their Python objects fit into the processor's
cache, and memory never grows to several times the size of the file.
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

from setmatch.data.formats.coco.schema import CategoryRecord, ImageRecord, refuse_repeats
from setmatch.data.formats.columns import Records
from setmatch.files.reading import read_json

_CHUNK = 256  # annotations decoded at a time
_Id = Annotated[int, msgspec.Meta(gt=-(2**63))]


class _RunLengths(msgspec.Struct, gc=False):
    counts: str | list[int]
    size: tuple[int, int]


class _Attributes(msgspec.Struct, gc=False):
    rotation: float | None = None
    title: float | None = msgspec.field(default=None, name="Rotation")
    capitals: float | None = msgspec.field(default=None, name="ROTATION")
    angle: float | None = None
    angle_title: float | None = msgspec.field(default=None, name="Angle")
    angle_capitals: float | None = msgspec.field(default=None, name="ANGLE")

    @property
    def turns(self) -> bool:
        """True if a rotation other than 0 is given."""
        return any(msgspec.structs.astuple(self))


class _Annotation(msgspec.Struct, gc=False):
    id: _Id
    image_id: _Id
    category_id: _Id
    bbox: tuple[float, float, float, float]
    area: Annotated[float, msgspec.Meta(ge=0)]
    iscrowd: Literal[0, 1]
    segmentation: list[list[float]] | _RunLengths | None = None
    attributes: _Attributes | None = None
    rotation: float | None = None
    angle: float | None = None


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
    points_per_ring: Int64[np.ndarray, " polygons"]
    rings_per_annotation: Int64[np.ndarray, " R"]
    run_lengths: Mapping[int, bytes]  # as JSON, by row


def parse_flawless(source: Path) -> tuple[Records, Records, Columns] | None:
    """Return the categories, images and annotations of a COCO instances file.

    Returns None for any other file, and when any annotation lacks a key or has an unusual value:
    the slow reader then inspects each annotation. Raises DataError for a key that is there twice.
    """
    try:
        text = read_json(source)
        tree = msgspec.json.decode(text, type=_File)
        columns = _columns(tree.annotations)
    except (OSError, msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError):
        return None
    if columns is None:
        return None
    refuse_repeats(source, text, len(columns.ids))
    images = Records(source, "images", tree.images)
    return Records(source, "categories", tree.categories), images, columns


def _columns(texts: Sequence[msgspec.Raw]) -> Columns | None:
    ids, image_ids, category_ids = (np.empty(len(texts), dtype=np.int64) for _ in range(3))
    xywh_px, area_px = np.empty((len(texts), 4)), np.empty(len(texts))
    crowd = np.empty(len(texts), dtype=bool)
    coordinates, numbers_per_ring = array("f"), array("q")
    rings_per_annotation = array("q")
    run_lengths: dict[int, bytes] = {}
    decode = msgspec.json.Decoder(_Annotation).decode
    for start in range(0, len(texts), _CHUNK):
        records = map(decode, texts[start : start + _CHUNK])
        columns = list(zip(*map(msgspec.structs.astuple, records), strict=True))
        rows = slice(start, start + len(columns[0]))
        ids[rows], image_ids[rows], category_ids[rows], boxes, area_px[rows], crowd[rows] = columns[
            :6
        ]
        xywh_px[rows] = boxes
        if any(attributes is not None and attributes.turns for attributes in columns[7]):
            return None
        if any(columns[8]) or any(columns[9]):
            return None
        polygon_lists = [_polygons(segmentation) for segmentation in columns[6]]
        polygons = list(chain.from_iterable(polygon_lists))
        rings_per_annotation.extend(map(len, polygon_lists))
        numbers_per_ring.extend(map(len, polygons))
        for polygon in polygons:
            coordinates.extend(polygon)
        for row, segmentation in enumerate(columns[6], start):
            if type(segmentation) is _RunLengths:
                tree = {"counts": segmentation.counts, "size": list(segmentation.size)}
                run_lengths[row] = json.dumps(tree).encode()
    lengths = np.frombuffer(numbers_per_ring, dtype=np.int64)
    points = np.frombuffer(coordinates, dtype=np.float32)
    if ((lengths < 6) | (lengths % 2 == 1)).any() or not np.isfinite(points).all():
        return None
    return Columns(
        ids,
        image_ids,
        category_ids,
        xywh_px,
        area_px,
        crowd,
        points.reshape(-1, 2),
        lengths // 2,
        np.frombuffer(rings_per_annotation, dtype=np.int64),
        run_lengths,
    )


def _polygons(segmentation: object) -> list[list[float]]:
    return segmentation if type(segmentation) is list else []
