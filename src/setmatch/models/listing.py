"""Every model that can be built or loaded by name, with a sentence about each."""

import inspect
from dataclasses import dataclass
from typing import Literal

from setmatch.models.load import bundled, read
from setmatch.models.registry import MODELS, PUBLISHED


@dataclass(frozen=True)
class AvailableModel:
    """A name that `train` takes or, where there are `weights`, `load`.

    `weights` are "bundled" with setmatch, "published" (downloaded on first use), or None.
    """

    name: str
    description: str
    weights: Literal["bundled", "published"] | None


def available_models() -> list[AvailableModel]:
    """Return the presets in the order of their families, then the example weights."""
    presets = [
        AvailableModel(
            name, inspect.getdoc(preset) or "", "published" if name in PUBLISHED else None
        )
        for name, preset in MODELS.items()
    ]
    return [*presets, *map(_example, bundled())]


def _example(name: str) -> AvailableModel:
    card = read(name).card
    classes = ", ".join(map(str, card.categories.names))
    return AvailableModel(name, f"Example weights: {card.source}; detects {classes}.", "bundled")
