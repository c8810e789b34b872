"""The outlines of annotated objects: polygons in flat arrays, and run lengths as they came."""

import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import hotcoco
import msgspec
import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8
from numpy.typing import NDArray

from setmatch.data.ragged import offsets_of, take_rows

_NOTHING = (b"null", b'""', b"{}")
_POLYGONS = msgspec.json.Decoder(list[list[float]])
SizeOf = Callable[[int], tuple[int, int] | None]  # of the image of an annotation
Note = Callable[[int, str, str], None]  # annotation, value, what was done


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons of A annotations; R rings with P points (x, y) in pixels; ends are one more.

    Annotation i has the rings `offsets[i]` to `offsets[i + 1]`, ring j the points
    `ring_offsets[j]` to `ring_offsets[j + 1]`. Where a file has COCO's run lengths instead, they
    are kept as its JSON text: bytes `run_offsets[i]` to `run_offsets[i + 1]` of `runs`.
    """

    points_px: Float32[NDArray[np.float32], "P 2"]
    ring_offsets: Int64[NDArray[np.int64], " ring_ends"]
    offsets: Int64[NDArray[np.int64], " annotation_ends"]
    runs: UInt8[NDArray[np.uint8], " T"]
    run_offsets: Int64[NDArray[np.int64], " annotation_ends"]

    def rings(self, annotation: int) -> list[Float32[NDArray[np.float32], "_ 2"]]:
        """Return the polygons of an annotation; none where there are none, or run lengths."""
        first, last = self.offsets[annotation], self.offsets[annotation + 1]
        ends = self.ring_offsets[first : last + 1].tolist()
        return [self.points_px[a:b] for a, b in pairwise(ends)]

    def run_lengths(self, annotation: int) -> str:
        """Return the run lengths of an annotation as JSON; empty where there are none."""
        start, stop = self.run_offsets[annotation], self.run_offsets[annotation + 1]
        return self.runs[start:stop].tobytes().decode()

    def take(self, rows: Int[NDArray[np.integer], " M"]) -> "Outlines":
        """Return the outlines of the chosen annotations, in their order."""
        rings, offsets = take_rows(self.offsets, rows)
        points, ring_offsets = take_rows(self.ring_offsets, rings)
        runs, run_offsets = take_rows(self.run_offsets, rows)
        return Outlines(self.points_px[points], ring_offsets, offsets, self.runs[runs], run_offsets)


def from_rings(
    points_px: Float32[NDArray[np.float32], "P 2"], sides: Sequence[int], rings: Sequence[int]
) -> Outlines | None:
    """Return outlines whose rings have `sides` points each, each annotation `rings` of them.

    None where there is no ring at all.
    """
    return _outlines(points_px, sides, rings, b"", [0] * len(rings))


def read_outlines(
    texts: Sequence[msgspec.Raw], note: Note, size_px_of: SizeOf | None = None
) -> Outlines | None:
    """Read COCO's segmentations: lists of polygons, or objects with run lengths.

    What is neither is left out, and `note` is told, as are run lengths that cannot be read or are
    not in the size that `size_px_of` gives. None where no annotation has an outline.
    """
    coordinates = array("f")
    sides: list[int] = []
    rings, runs, run_sizes = [0] * len(texts), bytearray(), [0] * len(texts)
    decode = _POLYGONS.decode
    for number, text in enumerate(texts):
        try:
            polygons = decode(text) if text else []
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            kept = _run_lengths(bytes(text))
            flaw = _flaw(kept, size_px_of and size_px_of(number)) if kept else ""
            if flaw:
                note(number, _short(text), flaw)
                continue
            runs += kept
            run_sizes[number] = len(kept)
            if not kept and bytes(text) not in _NOTHING:
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
    outlines = _outlines(points_px, sides, rings, bytes(runs), run_sizes)
    return outlines and _finite(outlines, note)


def _finite(outlines: Outlines, note: Note) -> Outlines:
    """Leave out the polygons of annotations with a point beyond every float32."""
    wrong = ~np.isfinite(outlines.points_px).all(axis=1)
    if not wrong.any():
        return outlines
    ring = np.searchsorted(outlines.ring_offsets, np.flatnonzero(wrong), side="right") - 1
    guilty = np.unique(np.searchsorted(outlines.offsets, ring, side="right") - 1)
    for annotation in guilty.tolist():
        note(annotation, "polygon not finite", "outline with such points: left out")
    counts = np.diff(outlines.offsets)
    counts[guilty] = 0
    kept, _ = take_rows(outlines.offsets, np.flatnonzero(counts))
    points, ring_offsets = take_rows(outlines.ring_offsets, kept)
    return Outlines(
        outlines.points_px[points],
        ring_offsets,
        offsets_of(counts),
        outlines.runs,
        outlines.run_offsets,
    )


def _outlines(
    points_px: Float32[NDArray[np.float32], "P 2"],
    sides: Sequence[int],
    rings: Sequence[int],
    runs: bytes,
    run_sizes: Sequence[int],
) -> Outlines | None:
    if not sides and not runs:
        return None
    return Outlines(
        points_px,
        offsets_of(np.array(sides, dtype=np.int64)),
        offsets_of(np.array(rings, dtype=np.int64)),
        np.frombuffer(runs, dtype=np.uint8),
        offsets_of(np.array(run_sizes, dtype=np.int64)),
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


def _flaw(runs: bytes, size_px: tuple[int, int] | None) -> str:
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
