"""Segmentations of annotated objects: polygons in flat arrays, and COCO run lengths as JSON."""

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import hotcoco
import msgspec
import numpy as np
from jaxtyping import Float32, Float64, Int, Int64, UInt8

from setmatch.data.ragged import offsets_of, take_rows

_EMPTY = (b"null", b'""', b"{}")
_POLYGONS = msgspec.json.Decoder(list[list[float]])
SizeOf = Callable[[int], tuple[int, int] | None]  # annotation -> (height, width) of its image
Note = Callable[[int, str, str], None]  # records annotation, value, and what was done about it


@dataclass(frozen=True, eq=False)
class Segmentations:
    """Polygons of A annotations: R rings with P points (x, y) in pixels.

    Annotation i is number k = `rows[i]` of those that were read. Its rings are `offsets[k]` to
    `offsets[k + 1]`; the points of ring j are `ring_offsets[j]` to `ring_offsets[j + 1]`. If the
    file has COCO run lengths instead, their JSON is `runs[run_offsets[k]:run_offsets[k + 1]]`.
    Choosing or reordering annotations changes only `rows`: arrays from a cached file are
    memory-mapped, so that unused points cost no memory.
    """

    rows: Int64[np.ndarray, " A"]
    points_px: Float32[np.ndarray, "P 2"]
    ring_offsets: Int64[np.ndarray, " ring_ends"]
    offsets: Int64[np.ndarray, " ends"]
    runs: UInt8[np.ndarray, " T"]
    run_offsets: Int64[np.ndarray, " ends"]

    def rings(self, annotation: int) -> list[Float32[np.ndarray, "_ 2"]]:
        """Return the polygons of an annotation; none where it has none, or run lengths."""
        row = self.rows[annotation]
        first, last = self.offsets[row], self.offsets[row + 1]
        ends = self.ring_offsets[first : last + 1].tolist()
        return [self.points_px[a:b] for a, b in pairwise(ends)]

    def run_lengths(self, annotation: int) -> str:
        """Return the run lengths of an annotation as JSON; "" where it has none."""
        row = self.rows[annotation]
        start, stop = self.run_offsets[row], self.run_offsets[row + 1]
        return self.runs[start:stop].tobytes().decode()

    def hulls_xyxy_px(self, most: int) -> Float64[np.ndarray, "A 4"]:
        """Return the box around the polygons of each annotation; NaN where there are none.

        Only the first `most` annotations are looked at.
        """
        hulls = np.full((len(self.rows), 4), np.nan)
        for annotation in range(min(most, len(self.rows))):
            rings = self.rings(annotation)
            if rings and all(map(len, rings)):
                points = np.concatenate(rings)
                hulls[annotation] = [*points.min(axis=0), *points.max(axis=0)]
        return hulls

    def take(self, rows: Int[np.ndarray, " M"]) -> "Segmentations":
        """Return the segmentations of the chosen annotations, in their order."""
        return replace(self, rows=self.rows[rows])


def from_rings(
    points_px: Float32[np.ndarray, "P 2"],
    points_per_ring: Sequence[int] | Int64[np.ndarray, " R"],
    rings_per_annotation: Sequence[int] | Int64[np.ndarray, " S"],
    run_lengths: Mapping[int, bytes] = MappingProxyType({}),
) -> Segmentations | None:
    """Return segmentations from flat points; None where there are none at all.

    `run_lengths` maps annotations to run lengths as JSON.
    """
    if not len(points_per_ring) and not run_lengths:
        return None
    sizes = np.zeros(len(rings_per_annotation), dtype=np.int64)
    sizes[list(run_lengths)] = [len(text) for text in run_lengths.values()]
    runs = b"".join(run_lengths[row] for row in sorted(run_lengths))
    return Segmentations(
        np.arange(len(rings_per_annotation)),
        points_px,
        offsets_of(np.array(points_per_ring, dtype=np.int64)),
        offsets_of(np.array(rings_per_annotation, dtype=np.int64)),
        np.frombuffer(runs, dtype=np.uint8),
        offsets_of(sizes),
    )


def parse_segmentations(
    texts: Sequence[msgspec.Raw], note: Note, size_px_of: SizeOf | None = None
) -> Segmentations | None:
    """Parse COCO segmentations: lists of polygons, or objects with run lengths.

    Anything else is left out and passed to `note`, and so are run lengths that cannot be read or
    differ from the size that `size_px_of` returns. Returns None where no annotation has a
    segmentation.
    """
    coordinates = array("f")
    points_per_ring: list[int] = []
    rings_per_annotation, run_lengths = [0] * len(texts), dict[int, bytes]()
    decode = _POLYGONS.decode
    for number, text in enumerate(texts):
        try:
            polygons = decode(text) if text else []
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            runs = normalized_run_lengths(bytes(text))
            flaw = run_lengths_flaw(runs, size_px_of and size_px_of(number)) if runs else ""
            if flaw:
                note(number, _short(text), flaw)
            elif runs:
                run_lengths[number] = runs
            elif bytes(text) not in _EMPTY:
                done = "segmentation neither polygons nor run lengths: left out"
                note(number, _short(text), done)
            continue
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                done = "polygon without three whole points: left out"
                note(number, f"polygon of {len(polygon)} numbers", done)
                continue
            coordinates.extend(polygon)
            points_per_ring.append(len(polygon) // 2)
            rings_per_annotation[number] += 1
    points_px = np.frombuffer(coordinates, dtype=np.float32).reshape(-1, 2)
    segmentations = from_rings(points_px, points_per_ring, rings_per_annotation, run_lengths)
    return segmentations and _without_infinite(segmentations, note)


def _without_infinite(segmentations: Segmentations, note: Note) -> Segmentations:
    """Drop the polygons of annotations with a point beyond the range of float32."""
    wrong = ~np.isfinite(segmentations.points_px).all(axis=1)
    if not wrong.any():
        return segmentations
    ring = np.searchsorted(segmentations.ring_offsets, np.flatnonzero(wrong), side="right") - 1
    affected = np.unique(np.searchsorted(segmentations.offsets, ring, side="right") - 1)
    for annotation in affected.tolist():
        note(annotation, "polygon not finite", "segmentation with such points: left out")
    counts = np.diff(segmentations.offsets)
    counts[affected] = 0
    kept, _ = take_rows(segmentations.offsets, np.flatnonzero(counts))
    points, ring_offsets = take_rows(segmentations.ring_offsets, kept)
    return replace(
        segmentations,
        points_px=segmentations.points_px[points],
        ring_offsets=ring_offsets,
        offsets=offsets_of(counts),
    )


def normalized_run_lengths(text: bytes) -> bytes:
    """Return COCO run lengths {"counts": text or list, "size": [h, w]} as JSON; b"" for others."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return b""
    has_size = isinstance(tree, dict) and _is_size(tree.get("size"))
    if not has_size or not isinstance(tree.get("counts"), str | list):
        return b""
    return json.dumps({"counts": tree["counts"], "size": tree["size"]}).encode()


def run_lengths_flaw(runs: bytes, size_px: Sequence[int] | None) -> str:
    """Return why run lengths cannot be the mask of an image of `size_px`; "" where they can."""
    tree = json.loads(runs)
    if size_px is not None and tree["size"] != list(size_px):
        return "run lengths of another size than the image: left out"
    try:
        hotcoco.mask.area(tree)
    except (TypeError, ValueError, OverflowError):
        return "run lengths that cannot be read: left out"
    return ""


def _is_size(size: object) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)


def _short(text: msgspec.Raw) -> str:
    shown = bytes(text)[:80].decode(errors="replace")
    return shown if len(text) <= 60 else f"{shown[:57]}..."
