"""COCO boxes that are written otherwise than as a list of four numbers, by whose tools they were.

Read are numbers as text, all four in one text, lists inside of lists, and objects that name the
sides. What may mean several boxes, such as five numbers or two points, is not.
"""

from collections.abc import Mapping, Sequence

from setmatch.data.formats.columns import as_number, is_quadruple

_SIZES = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
)
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
)
_LONGEST_TEXT = 400  # of a box that is one text


def read_notation(box: object) -> list[float] | None:
    """Return the four numbers of a box in another notation, in their order; None if it is none.

    Objects are not read, since they say themselves what their numbers are: see `read_sides`.
    """
    while isinstance(box, list) and len(box) == 1 and isinstance(box[0], list | str):
        box = box[0]
    if isinstance(box, str) and len(box) <= _LONGEST_TEXT:
        inner = box.strip().removeprefix("[").removesuffix("]")
        box = [part.strip() for part in inner.split(",")] if "," in inner else inner.split()
    return _numbers(box) if isinstance(box, list) else None


def read_sides(box: object) -> list[float] | None:
    """Return x, y, width and height of an object that names the sides of a box; None for others."""
    if not isinstance(box, dict):
        return None
    sides = {key.lower(): value for key, value in box.items() if isinstance(key, str)}
    if found := _named(sides, _SIZES):
        return found
    if found := _named(sides, _CORNERS):
        left, top, right, bottom = found
        return [left, top, right - left, bottom - top]
    return None


def _named(sides: Mapping[str, object], names: Sequence[Sequence[str]]) -> list[float] | None:
    """Return the numbers of the first names that an object has and that are its only sides."""
    known = {name for group in (*_SIZES, *_CORNERS) for name in group}
    given = known & sides.keys()
    chosen = next((group for group in names if set(group) == given), None)
    return None if chosen is None else _numbers([sides[name] for name in chosen])


def _numbers(values: Sequence[object]) -> list[float] | None:
    """Return four numbers, some of which may be texts; None for anything else."""
    if len(values) != 4 or None in values:
        return None
    numbers = [as_number(value) for value in values]
    is_text = [isinstance(value, str) for value in values]
    if any(text and number != number for text, number in zip(is_text, numbers, strict=True)):
        return None
    plain = [0.0 if text else value for text, value in zip(is_text, values, strict=True)]
    return numbers if is_quadruple(plain) else None
