"""The segmentations of annotated objects: polygons in flat arrays, and run lengths as they came."""

import json
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import MappingProxyType

import hotcoco
import msgspec
import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from setmatch.data.ragged import offsets_of, take_rows

_NOTHING = (b"null", b'""', b"{}")
_POLYGONS = msgspec.json.Decoder(list[list[float]])
SizeOf = Callable[[int], tuple[int, int] | None]  # of the image of an annotation
Note = Callable[[int, str, str], None]  # annotation, value, what was done


@dataclass(frozen=True, eq=False)
class Segmentations:
    """Polygons of A annotations; R rings with P points (x, y) in pixels; ends are one more.

    Annotation i is number `rows[i]` of those that were read: choosing some, or another order, moves
    no point, and what was not chosen stays, for a cached file is mapped and costs no memory. Of
    those read, k has the rings `offsets[k]` to `offsets[k + 1]`, ring j the points
    `ring_offsets[j]` to `ring_offsets[j + 1]`. Where a file has COCO's run lengths instead, they
    are kept as its JSON text: bytes `run_offsets[k]` to `run_offsets[k + 1]` of `runs`.
    """

    rows: Int64[np.ndarray, " A"]
    points_px: Float32[np.ndarray, "P 2"]
    ring_offsets: Int64[np.ndarray, " ring_ends"]
    offsets: Int64[np.ndarray, " ends"]
    runs: UInt8[np.ndarray, " T"]
    run_offsets: Int64[np.ndarray, " ends"]

    def rings(self, annotation: int) -> list[Float32[np.ndarray, "_ 2"]]:
        """Return the polygons of an annotation; none where there are none, or run lengths."""
        row = self.rows[annotation]
        first, last = self.offsets[row], self.offsets[row + 1]
        ends = self.ring_offsets[first : last + 1].tolist()
        return [self.points_px[a:b] for a, b in pairwise(ends)]

    def run_lengths(self, annotation: int) -> str:
        """Return the run lengths of an annotation as JSON; empty where there are none."""
        row = self.rows[annotation]
        start, stop = self.run_offsets[row], self.run_offsets[row + 1]
        return self.runs[start:stop].tobytes().decode()

    def take(self, rows: Int[np.ndarray, " M"]) -> "Segmentations":
        """Return the segmentations of the chosen annotations, in their order."""
        return replace(self, rows=self.rows[rows])


def from_rings(
    points_px: Float32[np.ndarray, "P 2"],
    sides: Sequence[int] | Int64[np.ndarray, " R"],
    rings: Sequence[int] | Int64[np.ndarray, " S"],
    runs: Mapping[int, bytes] = MappingProxyType({}),
) -> Segmentations | None:
    """Return segmentations whose rings have `sides` points each, each annotation `rings` of them.

    `runs` are run lengths as JSON, by annotation. None where there is no outline at all.
    """
    if not len(sides) and not runs:
        return None
    sizes = np.zeros(len(rings), dtype=np.int64)
    sizes[list(runs)] = [len(text) for text in runs.values()]
    return Segmentations(
        np.arange(len(rings)),
        points_px,
        offsets_of(np.array(sides, dtype=np.int64)),
        offsets_of(np.array(rings, dtype=np.int64)),
        np.frombuffer(b"".join(runs[row] for row in sorted(runs)), dtype=np.uint8),
        offsets_of(sizes),
    )


def read_outlines(
    texts: Sequence[msgspec.Raw], note: Note, size_px_of: SizeOf | None = None
) -> Segmentations | None:
    """Read COCO's segmentations: lists of polygons, or objects with run lengths.

    What is neither is left out, and `note` is told, as are run lengths that cannot be read or are
    not in the size that `size_px_of` gives. None where no annotation has an outline.
    """
    coordinates = array("f")
    sides: list[int] = []
    rings, runs = [0] * len(texts), dict[int, bytes]()
    decode = _POLYGONS.decode
    for number, text in enumerate(texts):
        try:
            polygons = decode(text) if text else []
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            kept = _run_lengths(bytes(text))
            flaw = flaw_of_runs(kept, size_px_of and size_px_of(number)) if kept else ""
            if flaw:
                note(number, _short(text), flaw)
            elif kept:
                runs[number] = kept
            elif bytes(text) not in _NOTHING:
                note(number, _short(text), "outline neither polygons nor run lengths: left out")
            continue
        for polygon in polygons:
            if len(polygon) < 6 or len(polygon) % 2:
                done = "polygon without three whole points: left out"
                note(number, f"polygon of {len(polygon)} numbers", done)
                continue
            coordinates.extend(polygon)
            sides.append(len(polygon) // 2)
            rings[number] += 1
    points_px = np.frombuffer(coordinates, dtype=np.float32).reshape(-1, 2)
    segmentations = from_rings(points_px, sides, rings, runs)
    return segmentations and _finite(segmentations, note)


def _finite(segmentations: Segmentations, note: Note) -> Segmentations:
    """Leave out the polygons of annotations with a point beyond every float32."""
    wrong = ~np.isfinite(segmentations.points_px).all(axis=1)
    if not wrong.any():
        return segmentations
    ring = np.searchsorted(segmentations.ring_offsets, np.flatnonzero(wrong), side="right") - 1
    guilty = np.unique(np.searchsorted(segmentations.offsets, ring, side="right") - 1)
    for annotation in guilty.tolist():
        note(annotation, "polygon not finite", "outline with such points: left out")
    counts = np.diff(segmentations.offsets)
    counts[guilty] = 0
    kept, _ = take_rows(segmentations.offsets, np.flatnonzero(counts))
    points, ring_offsets = take_rows(segmentations.ring_offsets, kept)
    return replace(
        segmentations,
        points_px=segmentations.points_px[points],
        ring_offsets=ring_offsets,
        offsets=offsets_of(counts),
    )


def _run_lengths(text: bytes) -> bytes:
    """Return COCO's run lengths {"counts": text or list, "size": [h, w]} as JSON, or nothing."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return b""
    whole = isinstance(tree, dict) and _is_size(tree.get("size"))
    if not whole or not isinstance(tree.get("counts"), str | list):
        return b""
    return json.dumps({"counts": tree["counts"], "size": tree["size"]}).encode()


def flaw_of_runs(runs: bytes, size_px: Sequence[int] | None) -> str:
    """Say what keeps run lengths from being the pixels of an image; nothing when nothing does."""
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
