"""Where a run begins: its data, its detector, and the checkpoint it goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from setmatch.config import ModelSettings, Recipe
from setmatch.data.audit.checks import require_trainable
from setmatch.data.audit.image_size import preprocessing_of, settled
from setmatch.data.audit.num_queries import queries_for
from setmatch.data.audit.preflight import DataCheck, check_data, check_files
from setmatch.data.dataset import Index
from setmatch.data.open import open_dataset, require_split
from setmatch.data.sampler import accumulation
from setmatch.data.stuff import things_only
from setmatch.errors import ConfigError, DataError
from setmatch.losses.criterion import Criterion
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.models.detr.model import GlobalDetector
from setmatch.models.initialize import starting_point
from setmatch.structures.metadata import Card, Preprocessing
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import (
    CHECKPOINTS,
    Checkpoint,
    has_checkpoints,
    newest_good,
    remove_old,
    set_aside_newer,
)
from setmatch.training.checkpoints.manifest import clean_up
from setmatch.training.checkpoints.state import facts_of, refuse_changes
from setmatch.training.distributed import Runtime, choose_precision
from setmatch.training.logging.step_metrics import listed
from setmatch.training.micro_batch import at_once
from setmatch.training.monitor.rules import Origin
from setmatch.training.optim.batch_norm_stats import NormStatistics
from setmatch.training.optim.ema import Average
from setmatch.training.optim.optimizer import build_optimizer
from setmatch.training.resolve_recipe import keep_recipe, unwritable
from setmatch.training.schedule import Plan
from setmatch.training.stages import freeze_all_but_masks, set_to_learn
from setmatch.training.step import Learner

REPORT = "data_report.json"
SAME_SIZE = 1.25  # times, that loaded weights take without a word


@dataclass(frozen=True)
class Start:
    """All that is settled before the first step; nothing has been written yet."""

    recipe: Recipe
    training: Index
    validation: Index | None
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
    clean_up(run)
    clean_up(run / CHECKPOINTS)
    return newest_good(run) if has_checkpoints(run) else None


def open_training(data: str | Path, recipe: Recipe, format: str | None = None) -> Index:
    """Return the images to learn from, with the objects that the recipe is about."""
    training = open_dataset(data, "train", format)
    return things_only(training) if recipe.data.things_only else training


def require_masks(data: str | Path, recipe: Recipe, format: str | None = None) -> None:
    """Make sure that masks can be learnt from the data and measured on it, before boxes are.

    Raises DataError where there are none, or too many PNG files of segments cannot be read.
    """
    training = open_training(data, recipe, format)
    training.require_masks()
    validation = open_validation(data, training, format)
    check_files(training, validation, recipe.data.on_bad_image == "skip", masks=True)


def begin(
    data: str | Path,
    recipe: Recipe,
    source: str | Path | None,
    checkpoint: Checkpoint | None,
    allow_changes: bool,
    format: str | None = None,
) -> Start:
    """Open the data and build the detector, from `source` or from the checkpoint.

    Raises DataError, WeightsError or ConfigError before anything is written.
    """
    training = open_training(data, recipe, format)
    require_trainable(training)
    recipe = recipe.model_copy(update={"data": settled(recipe.data, training)})
    facts = facts_of(recipe, training)
    if checkpoint is not None:
        refuse_changes(checkpoint, facts, allow_changes)
        detector = weights.load(checkpoint.folder)
        words = f"the checkpoint after step {checkpoint.step}"
    else:
        torch.manual_seed(recipe.train.seed)
        card = Card(
            recipe.model.preset,
            arguments_of(recipe.model, training),
            training.categories,
            preprocessing_of(recipe.data),
            source=f"trained by setmatch on {training.source.name}",
        )
        detector = starting_point(card, None if source is None else str(source))
        words = (
            f"weights {source}{_other_size(detector.card.preprocessing, recipe, str(source))}"
            if source
            else f"the preset's own start, seed {recipe.train.seed}"
        )
    detector.card = replace(detector.card, preprocessing=preprocessing_of(recipe.data))
    if detector.mask_head is not None:
        training.require_masks()
    if recipe.train.part == "masks":
        freeze_all_but_masks(detector)
    validation = open_validation(data, training, format)
    if validation is not None and recipe.data.things_only:
        validation = things_only(validation)
    check = check_data(training, validation, detector.num_queries, detector.card.preprocessing)
    masks = detector.mask_head is not None
    files = check_files(training, validation, recipe.data.on_bad_image == "skip", masks)
    check = replace(check, findings=(*check.findings, *files))
    loaded = None if checkpoint or source in (None, "none", "imagenet") else str(source)
    return Start(recipe, training, validation, check, detector, checkpoint, facts, words, loaded)


def arguments_of(model: ModelSettings, training: Index) -> dict[str, Any]:
    """Return the preset's arguments, with the number of queries where the data is to say it."""
    arguments = dict(model.arguments)
    if model.queries_by_data and "num_queries" not in arguments:
        arguments["num_queries"] = queries_for(training)
    return arguments


def _other_size(learnt: Preprocessing, recipe: Recipe, source: str) -> str:
    """Return a warning where loaded weights know pictures of quite another size, or nothing.

    A recipe that brings its weights suits them as it is.
    """
    old_px, new_px = learnt.short_side_px, preprocessing_of(recipe.data).short_side_px
    alike = max(old_px, new_px) <= SAME_SIZE * min(old_px, new_px)
    if alike or source == recipe.model.start:
        return ""
    return (
        f", which learnt from short sides of {old_px} px and are now shown {new_px} "
        f"(--set data.short_side_px={old_px} keeps theirs)"
    )


def open_validation(data: str | Path, training: Index, format: str | None = None) -> Index | None:
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


def build_learner(start: Start, runtime: Runtime) -> Learner:
    """Put the detector on its device and everything that trains it around it."""
    recipe, settings, loss = start.recipe, start.recipe.train, start.recipe.loss
    detector = start.detector.to(memory_format=torch.channels_last).to(runtime.device)
    set_to_learn(detector)
    if settings.part == "masks":  # of which the last layer alone has any
        loss = loss.model_copy(update={"auxiliary": False})
    return Learner(
        runtime,
        detector,
        runtime.wrap(detector),
        detector.objective(lambda scoring: Criterion(scoring, recipe.matching, loss)),
        build_optimizer(detector.parameter_groups(), settings),
        NormStatistics(detector, runtime),
        Average(detector, settings.ema_decay) if settings.ema_decay else None,
        choose_precision(settings.precision, runtime.device),
        settings.clip_norm,
    )


def open_run(run: Path, start: Start) -> None:
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


def introduction(start: Start, plan: Plan, learner: Learner) -> list[str]:
    """Say in plain words what is about to happen."""
    training, settings, world = start.training, start.recipe.train, learner.runtime.world
    detector, names = learner.detector, start.training.categories
    known = listed(tuple(names.name(slot) for slot in range(len(names))))
    validation = (
        f"{len(start.validation)} validation images"
        if start.validation is not None
        else "no validation split (val or valid), so nothing is evaluated and the newest is kept"
    )
    trained = sum(p.numel() for group in detector.parameter_groups().values() for p in group)
    images = at_once(settings, learner.runtime)
    parts = accumulation(settings.batch_size, images, world)
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
    if settings.part == "masks":
        sentences.append("the mask head alone is trained; the detector stays as it is")
    return [*sentences, *start.check.sentences()]


def origin_of(start: Start, plan: Plan) -> Origin:
    """Return what the watch must know of a run before its first step."""
    names, learnt = start.training.categories, ~start.training.crowd
    objects = np.bincount(start.training.slots[learnt], minlength=len(names)).tolist()
    return Origin(
        plan,
        published=isinstance(start.detector, GlobalDetector),
        loaded=start.loaded,
        objects={names.name(slot): count for slot, count in enumerate(objects)},
    )


def _length(plan: Plan) -> str:
    if plan.by_clock:
        return f"{plan.settings.minutes:g} minutes of steps"
    return f"{plan.settings.epochs} epochs are {plan.steps} steps"
