"""What a run with masks is to learn: every pixel of a picture, or its objects alone."""

from pathlib import Path
from typing import Literal

from setmatch.config import Recipe
from setmatch.data.open import format_with_stuff, open_dataset
from setmatch.errors import ConfigError
from setmatch.models.registry import MODELS, box_preset

Task = Literal["panoptic", "instance"]


def settings_of(task: Task | None) -> tuple[str, ...]:
    """Return the overrides of a recipe that a task asks for."""
    return () if task is None else (f"data.things_only={str(task == 'instance').lower()}",)


def require_mask_head(task: Task | None, preset: str) -> None:
    """Raise ConfigError that names a model with masks where the task needs one and there is none.

    Boxes alone would be learnt otherwise, and that seen when it is over.
    """
    if task is None or _has_masks(preset):
        return
    with_masks = f"{preset}_panoptic"
    advice = with_masks if with_masks in MODELS else "a model whose name ends in _panoptic"
    raise ConfigError(f"--task {task}: {preset} has no mask head; take {advice}")


def format_for(
    data: str | Path, recipe: Recipe, format: str | None, task: Task | None
) -> str | None:
    """Return which annotations to learn from: those of every pixel where masks are of stuff too.

    Raises DataError where every pixel was asked for and objects alone are annotated.
    """
    stuff = _has_masks(recipe.model.preset) and not recipe.data.things_only
    chosen = format_with_stuff(data, "train", format) if stuff else format
    if task == "panoptic":
        open_dataset(data, "train", chosen).require_segments()
    return chosen


def _has_masks(preset: str) -> bool:
    return box_preset(preset) != preset
