"""Which recipe a run follows, and its place in the folder of the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from setmatch.config import Recipe, dump_recipe, load_recipe, recipe_names
from setmatch.data.open import open_dataset, prefer_panoptic
from setmatch.errors import ConfigError
from setmatch.files import atomic_file
from setmatch.models.load import preset_of
from setmatch.models.registry import has_masks, mask_preset
from setmatch.training.checkpoints.checkpoint import Checkpoint, has_checkpoints
from setmatch.training.stages import boxes_run

Task = Literal["panoptic", "instance"]


RECIPE = "recipe.yaml"
USUAL = "setmatch_n"  # the preset of a run that names neither preset, weights nor recipe
USUAL_WITH_MASKS = "setmatch_n_panoptic"


def choose_recipe(
    model: str | None,
    weights: str | Path | None,
    recipe: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[str],
    checkpoint: Checkpoint | None,
    kept: Path | None = None,
    task: Task | None = None,
) -> Recipe:
    """Return the recipe asked for; where none is named, a resumed run's own is the base.

    That is the checkpoint's, or `kept`, which a run in its first stage leaves in its folder.

    `model` is the preset, unless an override names another; where neither recipe nor run is named
    it brings the recipe called like it, if there is one. Where no model is named either it is that
    of the `weights`, and where nothing at all is named one that needs no download, with masks if
    there is a `task`. Raises ConfigError, and WeightsError for weights that cannot be read.
    """
    base = recipe
    if recipe is None:
        base = kept if checkpoint is None else checkpoint.facts["recipe"]
    names_preset = any(override.startswith("model.preset=") for override in overrides)
    if base is None and model is None and not names_preset:
        match None if weights is None else str(weights):
            case None | "none":
                model = USUAL if task is None else USUAL_WITH_MASKS
            case "imagenet":
                pass
            case source:
                model = preset_of(source)
    if base is None and model in recipe_names():
        base = model
    preset = [] if model is None else [f"model.preset={model}"]
    chosen = load_recipe(base, [*preset, *overrides, *settings_of(task)])
    require_mask_head(task, chosen.model.preset)
    return chosen


def kept_recipe(run: Path, resume: bool) -> Path | None:
    """Return the recipe of a run that was interrupted in its first stage, if it is to go on."""
    return run / RECIPE if resume and has_checkpoints(boxes_run(run)) else None


def keep_recipe(run: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder of the run.

    Raises ConfigError when it cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        with atomic_file(run / RECIPE) as aside:
            aside.write_text(dump_recipe(recipe), encoding="utf-8")
    except OSError as error:
        raise unwritable(run, error) from None


def unwritable(run: Path, error: OSError) -> ConfigError:
    """Return what is raised where the folder of a run cannot be written."""
    return ConfigError(f"{run}: cannot be written ({error.strerror}); name another folder")


def settings_of(task: Task | None) -> tuple[str, ...]:
    """Return the overrides of a recipe that a task asks for."""
    return () if task is None else (f"data.things_only={str(task == 'instance').lower()}",)


def require_mask_head(task: Task | None, preset: str) -> None:
    """Raise ConfigError that names a model with masks where the task needs one and there is none.

    Boxes alone would be learned otherwise, and that seen when it is over.
    """
    if task is None or has_masks(preset):
        return
    advice = mask_preset(preset) or f"a model that has one, such as {USUAL_WITH_MASKS}"
    raise ConfigError(f"--task {task}: {preset} has no mask head; take {advice}")


def format_for(
    data: str | Path, recipe: Recipe, format: str | None, task: Task | None
) -> str | None:
    """Return which annotations to learn from: those of every pixel where masks are of stuff too.

    Raises DataError where every pixel was asked for and objects alone are annotated.
    """
    stuff = has_masks(recipe.model.preset) and not recipe.data.things_only
    chosen = prefer_panoptic(data, "train", format) if stuff else format
    if task == "panoptic":
        open_dataset(data, "train", chosen).require_segments()
    return chosen
