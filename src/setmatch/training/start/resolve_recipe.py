"""Choose the recipe and the annotation format of a run, and store the recipe in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from setmatch.config import Recipe
from setmatch.data.open import prefer_panoptic
from setmatch.errors import ConfigError
from setmatch.files.writing import write_text
from setmatch.models.factory import import_named
from setmatch.models.load import preset_of
from setmatch.models.registry import has_masks, mask_preset
from setmatch.recipe_text import dump_recipe, load_recipe, recipe_names
from setmatch.setting_values import TileSide
from setmatch.training.checkpoints.checkpoint import Checkpoint, has_checkpoints
from setmatch.training.stages import boxes_run
from setmatch.training.start.own_model import OwnModel

Task = Literal["panoptic", "instance"]

RECIPE = "recipe.yaml"
DEFAULT = "setmatch_n"  # the preset of a run that names neither preset, weights nor recipe
DEFAULT_WITH_MASKS = "setmatch_n_panoptic"


def choose_recipe(
    model: str | None,
    weights: str | Path | None,
    recipe: str | Path | Mapping[str, Any] | None,
    overrides: Sequence[str],
    checkpoint: Checkpoint | None,
    saved: Path | None = None,
    task: Task | None = None,
) -> Recipe:
    """Return the recipe of a run.

    Base: `recipe`; else that of the resumed run, in its `checkpoint` or `saved` in its folder
    during the box stage; else the one that `recipe_for` finds for the preset. Preset: an
    override of model.preset; else `model`; else the base's; else that of `weights`; else one that
    needs no download, with masks if there is a `task`. Raises ConfigError, and WeightsError for
    weights that cannot be read.
    """
    base = recipe
    if recipe is None:
        base = saved if checkpoint is None else checkpoint.facts["recipe"]
    names_preset = any(override.startswith("model.preset=") for override in overrides)
    if base is None and model is None and not names_preset:
        match None if weights is None else str(weights):
            case None | "none":
                model = DEFAULT if task is None else DEFAULT_WITH_MASKS
            case "imagenet":
                pass
            case source:
                model = preset_of(source)
    if base is None and model is not None:
        base = recipe_for(model, None if weights is None else str(weights))
    preset = [] if model is None else [f"model.preset={model}"]
    return load_recipe(base, [*preset, *overrides, *task_overrides(task)])


def recipe_for(preset: str, weights: str | None) -> str | None:
    """Return the name of the bundled recipe that trains a preset from `weights`; None without one.

    It is the one with the name of the preset. If training starts from "imagenet" and there is none,
    or it fine-tunes published weights, it is the published training of the preset or its family.
    """
    names = recipe_names()
    fine_tunes = preset in names and load_recipe(preset).model.init_weights == preset
    candidates = [preset]
    if weights == "imagenet" and (fine_tunes or preset not in names):
        families = [name for name in names if fine_tunes and preset.startswith(f"{name}_")]
        candidates = [f"published/{preset}", *families, preset]
    return next((name for name in candidates if name in names), None)


def import_own_model(model: str | None, overrides: Sequence[str]) -> None:
    """Import the code of a model that the caller names as `package.module:factory`.

    A recipe or a checkpoint that names one imports nothing. Raises ConfigError.
    """
    settings = (override.partition("=") for override in overrides)
    named = [value.strip() for key, _, value in settings if key.strip() == "model.preset"]
    for name in named if model is None else [model, *named]:
        import_named(name)


def saved_recipe(run: Path, resume: bool) -> Path | None:
    """Return the recipe file of a run that is resumed in its box stage."""
    return run / RECIPE if resume and has_checkpoints(boxes_run(run)) else None


def write_recipe(run: Path, recipe: Recipe) -> None:
    """Write the recipe into the folder of the run; raise ConfigError if that fails."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / RECIPE, dump_recipe(recipe))
    except OSError as error:
        raise run_not_writable(run, error) from None


def run_not_writable(run: Path, error: OSError) -> ConfigError:
    """Return the error for a run folder that cannot be written."""
    return ConfigError(f"{run}: cannot be written ({error.strerror}); name another folder")


def task_overrides(task: Task | None) -> tuple[str, ...]:
    """Return the recipe overrides of a task."""
    return () if task is None else (f"data.things_only={str(task == 'instance').lower()}",)


def tile_overrides(tiles: TileSide) -> tuple[str, ...]:
    """Return the recipe override of tiles; none keeps what the recipe says."""
    return () if tiles is None else (f"data.tiles={tiles}",)


def require_mask_head(task: Task | None, preset: str, own: OwnModel | None = None) -> None:
    """Raise ConfigError if the task needs masks and the model predicts none.

    The detector of a factory is checked when it is built.
    """
    if task is None or (own is not None and own.has_masks is not False):
        return
    if own is not None:
        raise ConfigError(f"--task {task}: {own.name} has no mask head")
    if has_masks(preset):
        return
    advice = mask_preset(preset) or f"a model that has one, such as {DEFAULT_WITH_MASKS}"
    raise ConfigError(f"--task {task}: {preset} has no mask head; choose {advice}")


def choose_format(
    data: str | Path,
    recipe: Recipe,
    format: str | None,
    task: Task | None,
    own: OwnModel | None = None,
) -> str | None:
    """Return the annotation format: panoptic, if there is one, for a model with masks of stuff.

    Otherwise it is `format`. Whether a factory's detector has masks follows from the task.
    """
    if own is None:
        masks = has_masks(recipe.model.preset)
    else:
        masks = task is not None if own.has_masks is None else own.has_masks
    stuff = masks and not recipe.data.things_only
    return prefer_panoptic(data, "train", format) if stuff else format
