"""What a call of `train` asks for, and the stages that it comes to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setmatch.config import Recipe
from setmatch.data.batches.loader import require_uncombined
from setmatch.distributed import Distributed
from setmatch.losses.base import Loss
from setmatch.setting_values import Freeze
from setmatch.training.checkpoints.checkpoint import Checkpoint
from setmatch.training.machine.micro_batch import resolve_micro_batch
from setmatch.training.optim.freeze import with_frozen
from setmatch.training.run_folder import tidy
from setmatch.training.schedule.length import resolve_length, with_length
from setmatch.training.stages import (
    box_stage_recipe,
    boxes_run,
    joint_recipe,
    needs_boxes,
    single_stage_recipe,
)
from setmatch.training.start.own_model import CriterionFactory, OwnModel, choose_own_recipe
from setmatch.training.start.resolve_recipe import (
    Task,
    choose_format,
    choose_recipe,
    require_mask_head,
    saved_recipe,
    write_recipe,
)
from setmatch.training.start.setup import find_checkpoint, require_known_model
from setmatch.training.start.training_data import TrainingData, open_training_data


@dataclass(frozen=True)
class Request:
    """What the caller of `train` asks for, in the words of its arguments.

    `preset` is the name of the model, if one is given; `own` is a model of the caller's own.
    """

    data: str | Path
    run: Path
    preset: str | None
    own: OwnModel | None
    weights: str | Path | None
    recipe: str | Path | Mapping[str, Any] | None
    overrides: Sequence[str]
    epochs: int | None
    minutes: float | int | None
    freeze: Freeze | None
    joint: bool
    resume: bool
    allow_changes: bool
    format: str | None
    boxes: str | None
    task: Task | None
    criterion: Loss | CriterionFactory | None


@dataclass(frozen=True)
class Stage:
    """One run of the training loop: the box stage, or the one that the folder is named for."""

    folder: Path
    recipe: Recipe
    weights: str | Path | None  # initial ones
    checkpoint: Checkpoint | None  # to resume from


def plan(request: Request, distributed: Distributed) -> tuple[TrainingData, tuple[Stage, ...]]:
    """Open the data and return it with the stages to train, in their order.

    A run with a box stage has its recipe written, so that it can be resumed in that stage. Raises
    ConfigError, DataError, WeightsError or TrainingError.
    """
    run, own = request.run, request.own
    checkpoint = distributed.first(lambda: _find(run, request.resume))
    recipe, format = _recipe_and_format(request, checkpoint)
    data = open_training_data(
        request.data,
        format,
        request.boxes,
        things_only=recipe.data.things_only,
        require_segments=request.task == "panoptic",
    )
    weights = recipe.model.init_weights if request.weights is None else request.weights
    is_new = checkpoint is None
    boxes_first = is_new and own is None and needs_boxes(recipe, weights, data.categories)
    if is_new and not boxes_first:  # a resumed run keeps its stages
        recipe = single_stage_recipe(recipe)
    recipe = resolve_length(with_frozen(recipe, request.freeze), len(data.training))
    recipe = with_length(recipe, request.epochs, request.minutes)
    recipe = resolve_micro_batch(recipe, distributed)
    if not boxes_first:
        return data, (Stage(run, recipe, weights, checkpoint),)
    # Checked now, because the box stage may take days.
    require_uncombined(recipe.data)
    data.require_masks(recipe.data.on_bad_image == "skip")
    boxes = boxes_run(run)
    boxes_checkpoint = distributed.first(lambda: _find(boxes, request.resume))
    if boxes_checkpoint is None or request.allow_changes:
        distributed.first(lambda: write_recipe(run, recipe))
    return data, (
        Stage(boxes, box_stage_recipe(recipe), weights, boxes_checkpoint),
        Stage(run, recipe, boxes, checkpoint),
    )


def _find(folder: Path, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to resume from, in a folder without leftovers."""
    tidy(folder)
    return find_checkpoint(folder, resume)


def _recipe_and_format(
    request: Request, checkpoint: Checkpoint | None
) -> tuple[Recipe, str | None]:
    """Return the recipe as it is chosen, before the data is known, and the annotation format."""
    own, task = request.own, request.task
    recipe = choose_recipe(
        request.preset,
        request.weights,
        request.recipe,
        request.overrides,
        checkpoint,
        saved_recipe(request.run, request.resume),
        task,
    )
    if own is None:
        require_known_model(request.run, checkpoint)
    require_mask_head(task, recipe.model.preset, own)
    format = choose_format(request.data, recipe, request.format, task, own)
    recipe = joint_recipe(recipe) if request.joint else recipe
    if own is not None:
        recipe = choose_own_recipe(recipe, own, request.overrides)
    return recipe, format
