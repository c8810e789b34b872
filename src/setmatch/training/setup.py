"""Where a run begins: its data, its detector, and the checkpoint it goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from setmatch.config import ModelSettings, Recipe
from setmatch.data.audit.checks import require_trainable
from setmatch.data.audit.image_size import preprocessing_of, resolve_image_size
from setmatch.data.audit.num_queries import queries_for
from setmatch.data.audit.preflight import DataCheck, check_data, check_files
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset, require_split
from setmatch.data.sampler import grad_accum_steps
from setmatch.data.stuff import drop_stuff
from setmatch.distributed import Distributed, choose_precision
from setmatch.errors import ConfigError, DataError
from setmatch.files import remove_leftovers
from setmatch.losses.criterion import Criterion
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.models.initialize import initialize
from setmatch.structures.metadata import ModelCard, Preprocessing
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    has_checkpoints,
    latest_valid,
    remove_old,
    set_aside_newer,
)
from setmatch.training.checkpoints.state import facts_of, refuse_changes
from setmatch.training.logging.step_metrics import listed
from setmatch.training.micro_batch import micro_batch_size
from setmatch.training.monitor.rules import RunContext
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.optimizer import build_optimizer
from setmatch.training.resolve_recipe import keep_recipe, unwritable
from setmatch.training.schedule import Schedule
from setmatch.training.stages import freeze_all_but_masks, train_mode
from setmatch.training.step import TrainStep

REPORT = "data_report.json"
SAME_SIZE = 1.25  # times, that loaded weights take without a word


@dataclass(frozen=True)
class TrainingSetup:
    """All that is settled before the first step; nothing has been written yet."""

    recipe: Recipe
    training: DetectionDataset
    validation: DetectionDataset | None
    check: DataCheck
    detector: Detector
    checkpoint: Checkpoint | None
    facts: Mapping[str, Any]
    weights: str  # what the detector starts from, in words
    loaded: str | None = None  # the detector's weights it starts from; None also for a checkpoint


def find_checkpoint(run: Path, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to go on from; None for a run that begins.

    Also removes what killed writes left there. Raises ConfigError when the folder has a run and
    `resume` is not wanted, or the best weights of one that lost its checkpoints, TrainingError when
    every checkpoint is damaged.
    """
    if run.exists() and not run.is_dir():
        raise ConfigError(f"{run}: is a file; name a folder for the run")
    if (run / BEST).exists() and not has_checkpoints(run):
        # Which would be compared with those of the run that begins, and might outlive them.
        raise ConfigError(
            f"{run}: has the best weights of a run, but no checkpoint to go on from; name another "
            f"folder, and start from them if you like (--weights {run})"
        )
    if has_checkpoints(run) and not resume:
        raise ConfigError(f"{run}: has a run already; go on with --resume, or name another folder")
    remove_leftovers(run)
    remove_leftovers(run / CHECKPOINTS)
    return latest_valid(run) if has_checkpoints(run) else None


def open_training(data: str | Path, recipe: Recipe, format: str | None = None) -> DetectionDataset:
    """Return the images to learn from, with the objects that the recipe is about."""
    training = open_dataset(data, "train", format)
    return drop_stuff(training) if recipe.data.things_only else training


def require_masks(data: str | Path, recipe: Recipe, format: str | None = None) -> None:
    """Make sure that masks can be learned from the data and measured on it, before boxes are.

    Raises DataError where there are none, or too many PNG files of segments cannot be read.
    """
    training = open_training(data, recipe, format)
    training.require_masks()
    validation = open_validation(data, training, format)
    check_files(training, validation, recipe.data.on_bad_image == "skip", masks=True)


def build_setup(
    data: str | Path,
    recipe: Recipe,
    source: str | Path | None,
    checkpoint: Checkpoint | None,
    allow_changes: bool,
    format: str | None = None,
) -> TrainingSetup:
    """Open the data and build the detector, from `source` or from the checkpoint.

    Raises DataError, WeightsError or ConfigError before anything is written.
    """
    training = open_training(data, recipe, format)
    require_trainable(training)
    recipe = recipe.model_copy(update={"data": resolve_image_size(recipe.data, training)})
    facts = facts_of(recipe, training)
    if checkpoint is not None:
        refuse_changes(checkpoint, facts, allow_changes)
        detector = weights.load(checkpoint.folder)
        words = f"the checkpoint after step {checkpoint.step}"
    else:
        torch.manual_seed(recipe.train.seed)
        card = ModelCard(
            recipe.model.preset,
            arguments_of(recipe.model, training),
            training.categories,
            preprocessing_of(recipe.data),
            source=f"trained by setmatch on {training.source.name}",
        )
        detector = initialize(card, None if source is None else str(source))
        words = (
            f"weights {source}{_other_size(detector.card.preprocessing, recipe, str(source))}"
            if source
            else f"the preset's own start, seed {recipe.train.seed}"
        )
    detector.card = replace(detector.card, preprocessing=preprocessing_of(recipe.data))
    if detector.mask_head is not None:
        training.require_masks()
    if recipe.train.train_only == "masks":
        freeze_all_but_masks(detector)
    validation = open_validation(data, training, format)
    if validation is not None and recipe.data.things_only:
        validation = drop_stuff(validation)
    check = check_data(training, validation, detector.num_queries, detector.card.preprocessing)
    masks = detector.mask_head is not None
    files = check_files(training, validation, recipe.data.on_bad_image == "skip", masks)
    check = replace(check, findings=(*check.findings, *files))
    loaded = None if checkpoint or source in (None, "none", "imagenet") else str(source)
    return TrainingSetup(
        recipe, training, validation, check, detector, checkpoint, facts, words, loaded
    )


def arguments_of(model: ModelSettings, training: DetectionDataset) -> dict[str, Any]:
    """Return the preset's arguments, with the number of queries where the data is to say it."""
    arguments = dict(model.arguments)
    if model.num_queries is not None and "num_queries" not in arguments:
        by_data = model.num_queries == "auto"
        arguments["num_queries"] = queries_for(training) if by_data else model.num_queries
    return arguments


def _other_size(learned: Preprocessing, recipe: Recipe, source: str) -> str:
    """Return a warning where loaded weights know pictures of quite another size, or nothing.

    A recipe that brings its weights suits them as it is.
    """
    old_px, new_px = learned.short_side_px, preprocessing_of(recipe.data).short_side_px
    alike = max(old_px, new_px) <= SAME_SIZE * min(old_px, new_px)
    if alike or source == recipe.model.init_weights:
        return ""
    return (
        f", which learned from short sides of {old_px} px and are now shown {new_px} "
        f"(--set data.short_side_px={old_px} keeps theirs)"
    )


def open_validation(
    data: str | Path, training: DetectionDataset, format: str | None = None
) -> DetectionDataset | None:
    """Return the validation split, or the held-out images; None where there can be neither.

    Raises DataError when it has no class in common with the training split.
    """
    try:
        require_split(Path(data), "val", format)
    except DataError:
        return None
    validation = open_dataset(data, "val", format)
    if not set(validation.categories.names) & set(training.categories.names):
        raise DataError(
            f"{validation.source}: no class in common with {training.source}; classes are "
            "matched by name, so name them alike"
        )
    return validation


def build_train_step(start: TrainingSetup, runtime: Distributed) -> TrainStep:
    """Put the detector on its device and everything that trains it around it."""
    recipe, settings, loss = start.recipe, start.recipe.train, start.recipe.loss
    detector = start.detector.to(memory_format=torch.channels_last).to(runtime.device)
    train_mode(detector)
    if settings.train_only == "masks":  # of which the last layer alone has any
        loss = loss.model_copy(update={"auxiliary": False})
    return TrainStep(
        runtime,
        detector,
        runtime.wrap(detector),
        detector.objective(lambda class_loss: Criterion(class_loss, recipe.matching, loss)),
        build_optimizer(detector.parameter_groups(), settings),
        BatchNormStats(detector, runtime),
        EMA(detector, settings.ema_decay) if settings.ema_decay else None,
        choose_precision(settings.precision, runtime.device),
        settings.clip_norm,
    )


def open_run(run: Path, start: TrainingSetup) -> None:
    """Make the folder of the run, with its complete recipe; damaged checkpoints step aside.

    Raises ConfigError when the folder cannot be written.
    """
    keep_recipe(run, start.recipe)
    try:
        start.check.write(run / REPORT)
        set_aside_newer(run, -1 if start.checkpoint is None else start.checkpoint.step)
        remove_old(run, start.recipe.train.keep_checkpoints)
    except OSError as error:
        raise unwritable(run, error) from None


def introduction(start: TrainingSetup, plan: Schedule, learner: TrainStep) -> list[str]:
    """Say in plain words what is about to happen."""
    training, settings, world = start.training, start.recipe.train, learner.runtime.world
    detector, names = learner.detector, start.training.categories
    known = listed(tuple(names.name(class_index) for class_index in range(len(names))))
    validation = (
        f"{len(start.validation)} validation images"
        if start.validation is not None
        else "no validation split (val or valid), so nothing is evaluated and the newest is kept"
    )
    trained = sum(p.numel() for group in detector.parameter_groups().values() for p in group)
    images = micro_batch_size(settings, learner.runtime)
    parts = grad_accum_steps(settings.batch_size, images, world)
    precision = str(learner.precision).removeprefix("torch.")
    sentences = [
        f"data: {len(training)} training images, {len(training.annotation_ids)} annotations; "
        f"{validation}",
        f"classes: {len(names)} ({known})",
        f"model: {detector.card.preset}, {detector.num_queries} queries, {trained:,} parameters to "
        f"train; from {start.weights}",
        f"plan: {_length(plan)} of {settings.batch_size} images "
        f"({world} process(es) x {parts} micro-batch(es) of {images})",
        f"computing on {learner.runtime.device} in {precision}",
        *training.notes,
    ]
    if settings.train_only == "masks":
        sentences.append("the mask head alone is trained; the detector stays as it is")
    return [*sentences, *start.check.sentences()]


def origin_of(start: TrainingSetup, plan: Schedule) -> RunContext:
    """Return what the watch must know of a run before its first step."""
    names, learned = start.training.categories, ~start.training.crowd
    objects = np.bincount(start.training.class_indices[learned], minlength=len(names)).tolist()
    return RunContext(
        plan,
        published=start.detector.fixed_queries,
        loaded=start.loaded,
        objects={names.name(class_index): count for class_index, count in enumerate(objects)},
    )


def _length(plan: Schedule) -> str:
    if plan.by_clock:
        return f"{plan.settings.minutes:g} minutes of steps"
    return f"{plan.settings.epochs} epochs are {plan.steps} steps"
