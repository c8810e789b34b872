"""What trainings of several variants of one recipe have in common: `ablate` and `tune`.

Each variant is an ordinary run in a folder around all of them, which is locked as a run is and
remembers what it was started with: variants of other settings or data cannot be compared.
"""

from pathlib import Path

import torch

from setmatch.config import ModelSettings, Recipe
from setmatch.errors import ConfigError
from setmatch.files.reading import read_text
from setmatch.files.writing import write_text
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.recipe_text import dump_recipe
from setmatch.structures.metadata import Categories, ModelCard

STARTED_WITH = "recipe.yaml"


def record_start(folder: Path, study: str, head: str, recipe: Recipe) -> None:
    """Write what is compared in `folder`: the common recipe below comment lines.

    `study` is what the user calls it, such as "ablation". Raises ConfigError if the folder was
    started with something else.
    """
    refuse_other_start(folder, study, recipe, head)
    write_text(folder / STARTED_WITH, head + dump_recipe(recipe))


def refuse_other_start(folder: Path, study: str, recipe: Recipe, head: str | None = None) -> None:
    """Raise ConfigError if the folder has another recipe or, with `head`, other comment lines."""
    started = folder / STARTED_WITH
    if not started.exists():
        return
    text = read_text(started)
    if text != (head or text.partition("\n")[0] + "\n") + dump_recipe(recipe):
        raise ConfigError(
            f"{started}: this {study} was started with other settings or data, or by another "
            "version of setmatch, so its runs cannot be compared; use the same or another folder"
        )


def sketch(model: ModelSettings) -> Detector:
    """Return the detector of a recipe without memory for its weights, to read what it is made of.

    Its card has all arguments of the preset. Raises ConfigError for unknown ones.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return build(ModelCard(model.preset, model.arguments, Categories((1,), ("one",))))
