"""What all trackers share: the numbers of a line of the log, and the settings of a recipe."""

from collections.abc import Iterator, Mapping
from typing import Any

from setmatch.training.logging.writers import Row

_AXES = ("kind", "step")


def numbers(row: Row) -> dict[str, float]:
    """Return the numbers of a line by name, such as "train/loss" and "val/AP"."""
    return {
        f"{row['kind']}/{name}": float(value)
        for name, value in row.items()
        if name not in _AXES and isinstance(value, int | float)
    }


def flat(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a recipe by their full names, such as "train.lr"."""
    for name, value in recipe.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
