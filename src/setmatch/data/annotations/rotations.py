"""Attributes that say by how much a box is turned, and in which unit."""

import math
from collections.abc import Iterable
from pathlib import Path

from setmatch.errors import DataError

# In small letters, the likeliest first: CVAT and Label Studio write rotation, in degrees.
TURNING = ("rotation", "angle")
_MOST_TURNS = 2 * math.pi  # radians, all the way around


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
