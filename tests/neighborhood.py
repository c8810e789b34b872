"""The neighborhood of a grammar: valid documents with parts nested, swapped, emptied or huge."""

import copy
from typing import Any

from hypothesis import strategies as st

_LONG = "a" * 5000
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 0.5, 3.0, 2**31, 2**53 + 1, 2**63, -(2**63), 10**400),
    *(float("nan"), float("inf"), -float("inf"), 1e300, 5e-324),
    *("", " ", "0", "1.0", "a.png", "../a.png", "/a.png", "C:\\a.png", "a\0b", "\ud800", "é", "٣"),
    *(
        _LONG,
        "/".join([_LONG] * 2),
        "a/" * 2000,
        "\n",
        "=",
        "nan",
        "--",
        "%s{}",
        [],
        {},
        [[]],
        [{}],
    ),
]


def _nested(value: Any, levels: int, key: str | None) -> Any:
    for _ in range(levels):
        value = [value] if key is None else {key: value}
    return value


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value below the root."""
    items: list[tuple[Any, Any]] = []
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list):
        items = list(enumerate(tree))
    places = [(*path, key) for key, _ in items]
    for key, value in items:
        places += _places(value, (*path, key))
    return places


@st.composite
def neighbors(draw: st.DrawFn, tree: Any, most: int = 3) -> Any:
    """Draw a document like `tree`, with one to `most` of its parts changed."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, most))):
        places = _places(tree)
        if not places:
            return tree
        *path, key = draw(st.sampled_from(places))
        parent = tree
        for step in path:
            parent = parent[step]
        value = parent[key]
        change = draw(
            st.sampled_from(
                ["odd", "nest", "deep", "move", "drop", "again", "empty", "huge", "key"]
            )
        )
        name = (
            key if isinstance(key, str) else draw(st.sampled_from(["id", "bbox", "segmentation"]))
        )
        if change == "odd":
            parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif change == "nest":
            parent[key] = _nested(value, 1, draw(st.sampled_from([None, name])))
        elif change == "deep":
            levels = draw(st.sampled_from([30, 400, 5000]))
            parent[key] = _nested(value, levels, draw(st.sampled_from([None, name])))
            return tree  # too deep for the walk of a further change
        elif change == "move":  # a value of another type, or of the same at the wrong place
            *other_path, other = draw(st.sampled_from(places))
            source = tree
            for step in other_path:
                source = source[step]
            parent[key] = copy.deepcopy(source[other])
        elif change == "drop":
            del parent[key]
        elif change == "again" and isinstance(parent, list):
            parent.append(copy.deepcopy(value))
        elif change == "empty":
            parent[key] = type(value)() if isinstance(value, list | dict | str) else ""
        elif change == "huge":
            many = isinstance(value, list | str)
            parent[key] = value * 500 if many else [value] * 3000
            return tree  # a second one inside of it would be of billions
        elif change == "key" and isinstance(parent, dict):
            parent[draw(st.sampled_from(["", key.upper(), f"{key} ", "id", _LONG]))] = value
    return tree
