"""Training: from a folder of annotated images to a folder with a trained model.

RUN/recipe.yaml is the complete recipe, RUN/checkpoints has the newest checkpoints, RUN/best the
best weights by validation PQ or AP, RUN/log.jsonl and RUN/log.csv the log, RUN/live.html a page to
watch the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setmatch.argument_types import checked_except
from setmatch.data.batches.sampler import grad_accum_steps
from setmatch.data.own_folder import require_own_folder
from setmatch.distributed import Distributed, init_distributed
from setmatch.errors import ConfigError
from setmatch.files.folder_lock import FolderLock
from setmatch.losses.base import Loss
from setmatch.models.detector import Detector
from setmatch.models.weights.terms import accepting
from setmatch.setting_values import Freeze, TileSide
from setmatch.training.callbacks import Callback
from setmatch.training.checkpoints.best import Run
from setmatch.training.machine.cpu_threads import keep_num_threads
from setmatch.training.machine.freed_memory import keep_freed_memory
from setmatch.training.machine.lost_workers import explain_lost_workers
from setmatch.training.machine.micro_batch import explain_oom, micro_batch_size
from setmatch.training.run_folder import locked_run
from setmatch.training.signals import StopRequest, stop_requests
from setmatch.training.start.own_model import (
    CriterionFactory,
    DetectorFactory,
    OwnModel,
)
from setmatch.training.start.plan import Request, Stage, plan
from setmatch.training.start.resolve_recipe import (
    RECIPE,
    Task,
    import_own_model,
    tile_overrides,
)
from setmatch.training.start.setup import build_setup
from setmatch.training.start.start_run import start_run
from setmatch.training.start.training_data import TrainingData
from setmatch.training.trackers import make_callbacks

BEFORE_FIRST_STEP = "before the first step, with nothing new to save"


@checked_except("model")
def train(
    data: str | Path,
    model: str | Detector | DetectorFactory | None = None,
    *,
    out: str | Path,
    weights: str | Path | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    minutes: float | int | None = None,
    freeze: Freeze | None = None,
    joint: bool = False,
    resume: bool = False,
    allow_changes: bool = False,
    device: str = "auto",
    format: str | None = None,
    boxes: str | None = None,
    task: Task | None = None,
    tiles: TileSide = None,
    criterion: Loss | CriterionFactory | None = None,
    accept_license: str | None = None,
    callbacks: Sequence[Callback | str] = (),
) -> Run:
    """Train a detector on the training split of `data` and return the run in folder `out`.

    `model` is a preset (default: that of `weights` or `recipe`, else setmatch_n), a `Detector` to
    train as it is, or a factory that is called with the number of classes and returns one, itself
    or by its name package.module:factory, which is imported. The classes on a detector's card must
    be those of the data. `weights` are the initial weights (default: the recipe's); a model of your
    own brings its weights along.
    `tiles` is the side of tiles to learn from, in pixels, or "auto" (default: the recipe's
    `data.tiles`).
    `criterion` replaces the set loss: an object called as a `setmatch.losses.base.Loss`, or a class
    or function that is called as `Criterion` is and returns one. `accept_license` names the terms
    of `weights` that are not free for every use. `callbacks` hear how the run goes: objects of
    `setmatch.training.callbacks.Callback`, or the names of trackers: "tensorboard", "wandb",
    "mlflow" and "trackio".

    `recipe` and `overrides` are those of `load_recipe`; `epochs` or `minutes` set the length.
    `freeze` names the part that keeps its weights: "stem" (of the backbone), "backbone", "encoder"
    (with the backbone) or "none".
    `task` requires masks (default model: setmatch_n_panoptic). A recipe with a box stage first
    trains the model without its mask head, in OUT/boxes, unless `weights` know every class or
    `joint` trains boxes and masks together.

    With `resume` a run continues from its newest valid checkpoint, with the same result as without
    the interruption. Its recipe is the default; settings and data must be unchanged, or
    `allow_changes` be set (model and classes never change). A model or criterion of your own must
    be passed again. A run without a checkpoint starts anew, so a job that is restarted needs one
    command only. Processes started by torchrun train together.

    Raises ConfigError, DataError, WeightsError or TrainingError; Stopped, with `exit_code` 143 or
    130, after SIGTERM or Ctrl-C, once the last whole step is in a checkpoint.
    """
    run, listeners = Path(out), make_callbacks(callbacks)
    if not (run / RECIPE).exists():  # a run that is there already may go on
        require_own_folder(data, run)
    overrides = [*overrides, *tile_overrides(tiles)]
    own = None if model is None or isinstance(model, str) else OwnModel(model)
    if own is not None and weights is not None:
        raise ConfigError(
            f"weights {weights}: model {own.name} is trained as it is passed; load the weights "
            "into the detector before"
        )
    named = model if isinstance(model, str) else None
    if own is None:
        import_own_model(named, overrides)
    request = Request(
        data=data,
        run=run,
        preset=named if own is None else own.name,
        own=own,
        weights=weights,
        recipe=recipe,
        overrides=overrides,
        epochs=epochs,
        minutes=minutes,
        freeze=freeze,
        joint=joint,
        resume=resume,
        allow_changes=allow_changes,
        format=format,
        boxes=boxes,
        task=task,
        criterion=criterion,
    )
    # Around everything, because torch reports a dead process wherever this one happens to be.
    with (
        accepting(accept_license),
        explain_lost_workers(),
        init_distributed(device) as distributed,
        stop_requests() as stop,
        locked_run(run, distributed) as lock,
    ):
        with stop.nothing_to_save(BEFORE_FIRST_STEP):
            splits, stages = plan(request, distributed)
        for stage in stages:
            train_stage(stage, splits, request, distributed, stop, lock, listeners)
    return Run(run, own)


def train_stage(
    stage: Stage,
    data: TrainingData,
    request: Request,
    distributed: Distributed,
    stop: StopRequest,
    lock: FolderLock | None,
    callbacks: Sequence[Callback],
) -> None:
    """Train one stage of a run to its end, or resume it."""
    recipe, own, task = stage.recipe, request.own, request.task
    images = micro_batch_size(recipe.train, distributed)
    # One process has tried fewer images by itself.
    with explain_oom(images if distributed.world > 1 else 1):
        with stop.nothing_to_save(BEFORE_FIRST_STEP):
            grad_accum_steps(recipe.train.batch_size, images, distributed.world)
            setup = build_setup(
                data,
                recipe,
                stage.weights,
                stage.checkpoint,
                request.allow_changes,
                own,
                request.criterion,
            )
            if own is not None and task is not None and setup.detector.mask_head is None:
                raise ConfigError(f"--task {task}: {own.name} has no mask head")
            trainer = start_run(stage.folder, setup, distributed, stop, lock, callbacks)
        with (
            trainer.logger.display,
            trainer.logger.callbacks,
            explain_lost_workers(ConnectionError, EOFError),  # from the pipe of such a process
            keep_num_threads(),
            keep_freed_memory(),
        ):
            trainer.run()
