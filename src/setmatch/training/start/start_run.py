"""Start or resume a run: restore the checkpoint, open the run folder, introduce the run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from setmatch.data.batches.loader import TrainingBatches, training_batches
from setmatch.data.batches.sampler import grad_accum_steps
from setmatch.distributed import Distributed
from setmatch.errors import counted, quoted
from setmatch.files.folder_lock import FolderLock
from setmatch.ops.image_size import tile_side_px
from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.checkpoints.best import Run
from setmatch.training.checkpoints.state import Progress, restore_state
from setmatch.training.checkpoints.strange_best import set_aside_strange_best
from setmatch.training.logging.clock import Clock
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.logging.run_logger import open_run_logger
from setmatch.training.logging.writers import LOG, read_rows
from setmatch.training.loop.data_report import DataReport
from setmatch.training.loop.evaluations import Evaluations
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.loop.saver import Saver
from setmatch.training.loop.scheduled_step import ScheduledStep
from setmatch.training.loop.trainer import Trainer
from setmatch.training.machine.fit_micro_batch import with_fitting_micro_batch
from setmatch.training.machine.micro_batch import micro_batch_size
from setmatch.training.monitor.rules import RunContext
from setmatch.training.monitor.validation_probe import Probe
from setmatch.training.optim.freeze import frozen_parts
from setmatch.training.run_folder import open_run_folder
from setmatch.training.schedule.last_stage import last_stage_of
from setmatch.training.schedule.plateau import Plateau, saved_best_step
from setmatch.training.schedule.schedule import Schedule, make_schedule
from setmatch.training.signals import StopRequest
from setmatch.training.start.setup import TrainingSetup, build_train_step
from setmatch.training.step import TrainStep


def start_run(
    folder: Path,
    setup: TrainingSetup,
    distributed: Distributed,
    stop: StopRequest,
    lock: FolderLock | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """Return the trainer of the run in `folder`, restored from the checkpoint if there is one.

    `lock` is the first process' own, on that folder or on the one around it.
    Writes the recipe and the data report into the folder and logs an introduction. Raises
    ConfigError if the folder cannot be written, TrainingError for a checkpoint of another model.
    """
    training, validation = setup.data.training, setup.data.validation
    settings = setup.recipe.train
    schedule = make_schedule(len(training), settings, 0 if validation is None else len(validation))
    train_step = build_train_step(setup, distributed)
    setup, fewer_images = with_fitting_micro_batch(setup, train_step)
    first_step, progress = 0, Progress()
    if setup.checkpoint is not None:
        first_step, progress = setup.checkpoint.step, restore_state(setup.checkpoint, train_step)
        categories = setup.data.categories
        names = [categories.name(index) for index in range(len(categories))]
        distributed.first(lambda: set_aside_strange_best(folder, names))
    last_stage = last_stage_of(schedule, read_rows(folder / LOG, first_step))
    distributed.first(lambda: open_run_folder(folder, setup, last_stage.kept_steps))
    probe = recorder = None
    if distributed.is_first:
        recorder = SampleRecorder(folder, setup.detector, validation, first_step)
        if validation is not None:
            probe = Probe(folder, setup.detector, validation, setup.recipe.matching)
    logger = open_run_logger(
        folder,
        schedule,
        distributed,
        training,
        first_step,
        progress.skips,
        run_context(setup, schedule),
        callbacks,
        recorder,
    )
    run = OpenRun(folder, setup, schedule, train_step, logger, first_step)
    introduce(run, fewer_images)
    batches = open_batches(setup, schedule, distributed, first_step)
    best_step = distributed.first(lambda: saved_best_step(Run(folder)))
    # Without best weights, evaluations before this one compare with nothing.
    earlier_steps = logger.evaluated_steps() if best_step >= 0 else ()
    plateau = Plateau(settings.patience, earlier_steps, best_step)
    return Trainer(
        run,
        batches,
        ScheduledStep(run),
        Evaluations(run, plateau, last_stage, probe, recorder),
        Saver(run, lock),
        DataReport(run, batches),
        Clock(progress.spent_s),
        stop,
        progress,
        recorder,
    )


def introduce(run: OpenRun, fewer_images: str | None) -> None:
    """Say what is about to be trained, tell the callbacks, and warn of what is known already.

    `fewer_images` says why micro-batches are smaller than usual, if they are.
    """
    sentences = introduction(run.setup, run.schedule, run.train_step)
    for sentence in [*sentences, *([fewer_images] if fewer_images else [])]:
        run.logger.say(sentence)
    plain_recipe = run.setup.recipe.model_dump(mode="json", by_alias=True)
    run.logger.callbacks.start(StartedRun(run.folder, plain_recipe, run.first_step))
    run.logger.warn_before_first_step()


def open_batches(
    setup: TrainingSetup, schedule: Schedule, distributed: Distributed, first_step: int
) -> TrainingBatches:
    """Return this process' micro-batches of the remaining steps."""
    settings = setup.recipe.train
    return training_batches(
        setup.data.training,
        setup.recipe.data,
        setup.detector.card.preprocessing,
        batch_size=settings.batch_size,
        micro_batch=micro_batch_size(settings, distributed),
        rank=distributed.rank,
        world=distributed.world,
        first_step=first_step,
        steps=schedule.steps - first_step,
        seed=settings.seed,
        masks=setup.detector.mask_head is not None,
        epochs=None if schedule.by_clock else settings.num_epochs,
    )


def introduction(setup: TrainingSetup, schedule: Schedule, train_step: TrainStep) -> list[str]:
    """Return sentences that describe the run: data, classes, model, length and device."""
    training, validation = setup.data.training, setup.data.validation
    settings, world = setup.recipe.train, train_step.distributed.world
    detector, categories = setup.detector, setup.data.categories
    names = quoted([categories.name(index) for index in range(len(categories))])
    evaluated_on = (
        f"{len(validation)} validation images"
        if validation is not None
        else "no validation split (val or valid), so nothing is evaluated and the newest weights "
        "are kept"
    )
    parameters = sum(p.numel() for group in detector.parameter_groups().values() for p in group)
    images = micro_batch_size(settings, train_step.distributed)
    micro_batches = grad_accum_steps(settings.batch_size, images, world)
    precision = str(train_step.precision).removeprefix("torch.")
    sentences = [
        f"data: {len(training)} training images, {len(training.annotation_ids)} annotations; "
        f"{evaluated_on}",
        f"classes: {len(categories)} ({names})",
        f"model: {detector.card.preset}, {detector.num_queries} queries, {parameters:,} trainable "
        f"parameters; initialized from {setup.initialized_from}",
        f"schedule: {_length(schedule)} of {settings.batch_size} images "
        f"({counted(world, 'process')} x {counted(micro_batches, 'micro-batch')} of {images})",
        f"device: {train_step.distributed.device}, {precision}",
        *training.notes,
    ]
    if setup.recipe.data.tiles is not None:
        side_px = tile_side_px(setup.recipe.data.tiles, detector.card.preprocessing)
        evaluated = "evaluated in tiles, too" if setup.evaluation_tiles else "evaluated whole"
        sentences.append(
            f"tiles: three of four images show a random tile of {side_px} px; images are "
            f"{evaluated}"
        )
    if frozen := frozen_parts(detector, settings):
        sentences.append(frozen)
    if settings.train_only == "masks":
        sentences.append("only the mask head is trained; the rest of the model is frozen")
    return [*sentences, *setup.check.sentences()]


def run_context(setup: TrainingSetup, schedule: Schedule) -> RunContext:
    """Return what the training monitor needs to know of a run before its first step."""
    training, categories = setup.data.training, setup.data.categories
    objects = np.bincount(
        training.class_indices[~training.crowd], minlength=len(categories)
    ).tolist()
    return RunContext(
        schedule,
        fixed_queries=setup.detector.fixed_queries,
        loaded_weights=setup.loaded_weights,
        objects={categories.name(index): count for index, count in enumerate(objects)},
    )


def _length(schedule: Schedule) -> str:
    if schedule.by_clock:
        return f"{counted(schedule.settings.minutes, 'minute')} of steps"
    return f"{counted(schedule.settings.num_epochs, 'epoch')}, {counted(schedule.steps, 'step')}"
