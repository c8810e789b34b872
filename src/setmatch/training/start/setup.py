"""Everything a run needs before its first step: checkpoint, checked data, detector, train step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from setmatch.config import MatchCosts, ModelSettings, Recipe
from setmatch.data.audit.checks.checks import require_kept_boxes, require_trainable
from setmatch.data.audit.preflight import DataCheck, check_data, check_files
from setmatch.data.audit.recommend.image_size import preprocessing_of, resolve_image_size
from setmatch.data.audit.recommend.num_queries import queries_for
from setmatch.data.batches.loader import require_uncombined
from setmatch.data.batches.random_tile import RandomTile, require_larger_images, tile_of
from setmatch.data.dataset import DetectionDataset
from setmatch.distributed import Distributed, choose_precision
from setmatch.errors import ConfigError
from setmatch.losses.base import Loss
from setmatch.losses.classification import ClassificationLoss
from setmatch.losses.matcher import BY_QUALITY
from setmatch.models import load as weights
from setmatch.models.detector import Detector
from setmatch.models.initialize import initialize
from setmatch.models.registry import find_preset
from setmatch.ops.image_size import tile_side_px
from setmatch.setting_values import TileSide
from setmatch.structures.metadata import STARTED_FROM, TRAINED_ON, ModelCard, Preprocessing
from setmatch.training.checkpoints.best import BEST
from setmatch.training.checkpoints.checkpoint import (
    Checkpoint,
    has_checkpoints,
    latest_valid,
)
from setmatch.training.checkpoints.state import facts_of, refuse_changes
from setmatch.training.optim.batch_norm_stats import BatchNormStats
from setmatch.training.optim.ema import EMA
from setmatch.training.optim.freeze import freeze, require_trained, train_mode
from setmatch.training.optim.optimizer import build_optimizer
from setmatch.training.start.own_model import CriterionFactory, OwnModel, build_criterion, fill
from setmatch.training.start.training_data import TrainingData
from setmatch.training.step import TrainStep

SIMILAR_SIZE = 1.25  # image sizes up to this factor apart need no warning


@dataclass(frozen=True)
class TrainingSetup:
    """Everything decided before the first step; nothing has been written yet."""

    recipe: Recipe
    data: TrainingData
    check: DataCheck
    detector: Detector
    checkpoint: Checkpoint | None
    facts: Mapping[str, Any]  # what a resumed run must have in common with this one
    initialized_from: str  # in words
    loaded_weights: str | None = None  # initial weights of a detector; None for other ones
    criterion: Loss | CriterionFactory | None = None  # the user's own

    @property
    def evaluation_tiles(self) -> TileSide:
        """The tiles of evaluations; None for panoptic segments, which are of whole images."""
        validation = self.data.validation
        panoptic = validation is not None and validation.panoptic is not None
        return None if panoptic and self.detector.mask_head else self.recipe.data.tiles


def find_checkpoint(run: Path, resume: bool) -> Checkpoint | None:
    """Return the checkpoint to resume from; None for a run that starts.

    Raises ConfigError if the folder has a run and `resume` is not set, or has best weights but no
    checkpoints; TrainingError if every checkpoint is damaged.
    """
    if (run / BEST).is_dir() and not has_checkpoints(run):
        # A new run would compare its weights with these, and might keep them.
        raise ConfigError(
            f"{run}: has the best weights of a run, but no checkpoint to resume from; name another "
            f"folder, and start from these weights if you like (--weights {run})"
        )
    if has_checkpoints(run) and not resume:
        raise ConfigError(
            f"{run}: has a run already; continue with --resume, or name another folder"
        )
    return latest_valid(run) if has_checkpoints(run) else None


def require_known_model(run: Path, checkpoint: Checkpoint | None) -> None:
    """Raise ConfigError if the run to resume trains a model of the user's own, not a preset."""
    if checkpoint is None:
        return
    name = checkpoint.facts["recipe"]["model"]["preset"]
    try:
        find_preset(name)
    except ConfigError:
        raise ConfigError(
            f"{run}: the run trains a model of your own, {name}; to resume it, pass the same "
            "detector or factory as `model`"
        ) from None


def build_setup(
    data: TrainingData,
    recipe: Recipe,
    source: str | Path | None,
    checkpoint: Checkpoint | None,
    allow_changes: bool,
    own: OwnModel | None = None,
    criterion: Loss | CriterionFactory | None = None,
) -> TrainingSetup:
    """Check the data and build the detector, from weights `source` or from the checkpoint.

    `own` takes the place of the recipe's preset. Raises DataError, WeightsError or ConfigError
    before anything is written.
    """
    training = data.training
    require_trainable(training)
    require_kept_boxes(training)
    recipe = recipe.model_copy(update={"data": resolve_image_size(recipe.data, training)})
    if checkpoint is not None:
        recipe = with_micro_batch_of(recipe, checkpoint)
    facts = facts_of(recipe, training)
    if checkpoint is not None:
        refuse_changes(checkpoint, facts, allow_changes)
    detector, initialized_from = _build_detector(recipe, data, source, checkpoint, own)
    has_masks = detector.mask_head is not None
    if has_masks:
        require_uncombined(recipe.data)
        training.require_masks()
    freeze(detector, recipe.train)
    preprocessing = detector.card.preprocessing
    tiles = recipe.data.tiles
    if tiles is not None:
        require_larger_images(training, tile_side_px(tiles, preprocessing))
    check = check_data(training, data.validation, detector.num_queries, preprocessing, tiles)
    skip = recipe.data.on_bad_image == "skip"
    files, unreadable = check_files(training, data.validation, skip, has_masks)
    check = replace(check, findings=(*check.findings, *files), unreadable=unreadable)
    start = source if checkpoint is None else _start_of(detector)
    loaded = None if start in (None, "none", "imagenet") else str(start)
    return TrainingSetup(
        recipe, data, check, detector, checkpoint, facts, initialized_from, loaded, criterion
    )


def with_micro_batch_of(recipe: Recipe, checkpoint: Checkpoint) -> Recipe:
    """Return the recipe with the number that the resumed run has found for "auto"."""
    if recipe.train.micro_batch != "auto":
        return recipe
    found = checkpoint.facts["recipe"]["train"]["micro_batch"]
    return recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"micro_batch": found})}
    )


def _build_detector(
    recipe: Recipe,
    data: TrainingData,
    source: str | Path | None,
    checkpoint: Checkpoint | None,
    own: OwnModel | None,
) -> tuple[Detector, str]:
    """Return the detector, and a phrase that says what it is initialized from."""
    training = data.training
    preprocessing = (own and own.preprocessing) or preprocessing_of(recipe.data)
    origin = f"{TRAINED_ON}{data.name or training.source.name}"
    if checkpoint is None or own is not None:
        torch.manual_seed(recipe.train.seed)
    if own is not None:
        detector = own.build(training.categories, preprocessing, origin)
        if checkpoint is None:
            return detector, f"the model that was passed, seed {recipe.train.seed}"
        return fill(detector, checkpoint.folder), f"the checkpoint after step {checkpoint.step}"
    if checkpoint is not None:
        detector = weights.load(checkpoint.folder, preprocessing=preprocessing)
        return detector, f"the checkpoint after step {checkpoint.step}"
    require_trained(recipe.train, None if source is None else str(source))
    card = ModelCard(
        recipe.model.preset,
        arguments_of(recipe.model, training, tile_of(recipe.data.tiles, preprocessing)),
        training.categories,
        preprocessing,
        source=origin,
    )
    if not source:
        return initialize(card, None), f"the preset's default, seed {recipe.train.seed}"
    detector = initialize(card, str(source))
    if source != "none":
        origin = f"{origin}{STARTED_FROM}{_name_of(source)}"
    detector.card = replace(detector.card, source=origin)
    return detector, f"weights {source}{_size_warning(preprocessing, recipe, str(source))}"


def _name_of(source: str | Path) -> str:
    """Return the name of weights, without where they lie on this machine."""
    return Path(source).name if Path(source).exists() else str(source)


def _start_of(detector: Detector) -> str | None:
    """Return the name of the weights that a resumed run started from; None if it had none."""
    _, started, start = detector.card.source.rpartition(STARTED_FROM)
    return start if started else None


def arguments_of(
    model: ModelSettings, training: DetectionDataset, tile: RandomTile | None = None
) -> dict[str, Any]:
    """Return the preset's arguments; `num_queries: auto` becomes a number that fits the data."""
    arguments = dict(model.arguments)
    if model.num_queries is not None and "num_queries" not in arguments:
        auto = model.num_queries == "auto"
        arguments["num_queries"] = queries_for(training, tile) if auto else model.num_queries
    return arguments


def _size_warning(preprocessing: Preprocessing, recipe: Recipe, source: str) -> str:
    """Return a warning if weights were trained at a very different image size, else "".

    Weights that the recipe itself names suit it.
    """
    if source in ("none", "imagenet", recipe.model.init_weights):
        return ""
    trained_px = weights.read(source).card.preprocessing.short_side_px
    new_px = preprocessing.short_side_px
    if max(trained_px, new_px) <= SIMILAR_SIZE * min(trained_px, new_px):
        return ""
    return (
        f", which were trained at a short side of {trained_px} px and now get {new_px} px "
        f"(--set data.short_side_px={trained_px} keeps their size)"
    )


def build_train_step(setup: TrainingSetup, distributed: Distributed) -> TrainStep:
    """Move the detector to its device and build the loss, optimizer and EMA that train it."""
    recipe, settings, loss_weights = setup.recipe, setup.recipe.train, setup.recipe.loss
    detector = setup.detector.to(memory_format=torch.channels_last).to(distributed.device)
    train_mode(detector, settings)
    if settings.train_only == "masks":  # only the last layer has masks
        loss_weights = loss_weights.model_copy(update={"auxiliary": False})

    def loss(costs: MatchCosts) -> Loss:
        def set_loss(class_loss: ClassificationLoss) -> Loss:
            return build_criterion(setup.criterion, class_loss, costs, loss_weights)

        if setup.criterion is not None:
            return set_loss(detector.class_loss)
        return detector.objective(set_loss)

    matched = loss(recipe.matching)
    return TrainStep(
        distributed,
        detector,
        distributed.wrap(detector),
        matched,
        loss(BY_QUALITY) if settings.match_by_quality_from < 1 else matched,
        build_optimizer(
            detector.parameter_groups(), settings, detector.rate_factors(), detector.undecayed()
        ),
        BatchNormStats(detector, distributed),
        EMA(detector, settings.ema_decay, settings.ema_warmup_steps)
        if settings.ema_decay
        else None,
        choose_precision(settings.precision, distributed.device),
        settings.clip_norm,
    )
