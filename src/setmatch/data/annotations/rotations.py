"""Attributes that say by how much a box is turned, and in which unit."""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int32

from setmatch.errors import DataError

# In small letters, the likeliest first: CVAT and Label Studio write rotation, in degrees.
TURNING = ("rotation", "angle")
_MOST_TURNS = 2 * math.pi  # radians, all the way around
_FEWEST = 5  # angles that prove anything
_TOLERANCE_PX = 1.5  # by which a box may leave its image


def require_degrees(source: Path, rotations: Iterable[tuple[str, float]]) -> None:
    """Raise DataError where attributes called angle may be radians: where all are that small.

    `rotations` are the name and the value of each attribute that turns a box.
    """
    angles = [value for name, value in rotations if name.lower() == "angle" and value]
    if angles and max(map(abs, angles)) <= _MOST_TURNS:
        raise DataError(
            f"{source}: the attribute 'angle' may be in radians, since all {len(angles)} are "
            f"at most 2 pi, such as {angles[0]:g}; call it 'rotation' if it is in degrees, or "
            "convert it to degrees"
        )


def require_turns(
    source: Path,
    degrees: Float64[np.ndarray, " N"],
    xywh_px: Float64[np.ndarray, "N 4"],
    hulls_px: Float64[np.ndarray, "N 4"],
    sizes_px: Int32[np.ndarray, "N 2"],
) -> None:
    """Raise DataError where attributes called angle are probably something else, such as a view.

    So they are if all turned boxes are turned by a right angle, since such boxes would have been
    drawn upright; or if more than one in ten boxes around the turned ones, `hulls_px`, leaves its
    image, and hardly any of the boxes as they are written.
    """
    if len(degrees) < _FEWEST:
        return
    right = bool((degrees % 90 == 0).all())
    outside, outside_as_written = (_outside(boxes, sizes_px) for boxes in (hulls_px, xywh_px))
    if not right and (10 * outside <= len(degrees) or 10 * outside_as_written > outside):
        return
    evidence = (
        f"all {len(degrees)} that would are multiples of 90, such as {degrees[0]:g}"
        if right
        else f"{outside} of {len(degrees)} boxes would leave their image, {outside_as_written} do "
        "as they are"
    )
    raise DataError(
        f"{source}: the attribute 'angle' probably does not turn boxes: {evidence}; call it "
        "'rotation' if it does, and 'view' or the like if not"
    )


def _outside(xywh_px: Float64[np.ndarray, "N 4"], sizes_px: Int32[np.ndarray, "N 2"]) -> int:
    low, high = xywh_px[:, :2], xywh_px[:, :2] + xywh_px[:, 2:]
    beyond = (low < -_TOLERANCE_PX) | (high > sizes_px[:, ::-1] + _TOLERANCE_PX)
    return int(beyond.any(axis=1).sum())
