"""Every model that can be built or loaded by name, with a sentence about each."""

import inspect
from dataclasses import dataclass

from setmatch.models.load import bundled, read
from setmatch.models.registry import MODELS


@dataclass(frozen=True)
class AvailableModel:
    """A name that `load` or `train` takes; `is_trained` marks weights that come with setmatch."""

    name: str
    description: str
    is_trained: bool


def available_models() -> list[AvailableModel]:
    """Return the presets in the order of their families, then the example weights."""
    presets = [
        AvailableModel(name, inspect.getdoc(preset) or "", is_trained=False)
        for name, preset in MODELS.items()
    ]
    return [*presets, *map(_example, bundled())]


def _example(name: str) -> AvailableModel:
    card = read(name).card
    classes = ", ".join(map(str, card.categories.names))
    return AvailableModel(
        name, f"Example weights: {card.source}; detects {classes}.", is_trained=True
    )
