"""Training, from a folder of annotated images to a folder with a trained model.

RUN/recipe.yaml is the complete recipe, RUN/checkpoints the newest states, RUN/best the best weights
by validation PQ or AP, RUN/log.jsonl and RUN/log.csv what happened, RUN/live.html a page to watch
it by.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setmatch.config import Recipe
from setmatch.data.sampler import grad_accum_steps
from setmatch.distributed import init_distributed
from setmatch.errors import TrainingError
from setmatch.training.checkpoints.best import Run
from setmatch.training.checkpoints.checkpoint import Checkpoint
from setmatch.training.cpu_threads import threads_kept
from setmatch.training.micro_batch import explain_oom, micro_batch_size, resolve_micro_batch
from setmatch.training.resolve_recipe import (
    Task,
    choose_recipe,
    format_for,
    keep_recipe,
    kept_recipe,
)
from setmatch.training.setup import build_setup, find_checkpoint, open_training, require_masks
from setmatch.training.signals import stop_requests
from setmatch.training.stages import (
    box_stage_recipe,
    boxes_run,
    joint_recipe,
    needs_boxes,
    single_stage_recipe,
    with_length,
)
from setmatch.training.trainer import Trainer

BEGINNING = "before the first step, with nothing new to save"


def train(
    data: str | Path,
    model: str | None = None,
    *,
    out: str | Path,
    weights: str | Path | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    epochs: int | None = None,
    minutes: float | int | None = None,
    joint: bool = False,
    resume: bool = False,
    allow_changes: bool = False,
    device: str = "auto",
    format: str | None = None,
    task: Task | None = None,
) -> Run:
    """Train a detector on the training split of `data` and return the run in folder `out`.

    `model` is a preset (default: that of `weights` or `recipe`, else setmatch_n) and `weights`
    what to start from (default: the recipe's), `recipe` and `overrides` as in `load_recipe`,
    `epochs` or `minutes` how long. `task` asks for masks (default: setmatch_n_panoptic's). A recipe
    of two stages trains the detector without its mask head in OUT/boxes before, unless `weights`
    know every class or both are trained at once (`joint`).

    With `resume` a run goes on from its newest good checkpoint as if it had never ended, by its own
    recipe; settings and data must be the same unless `allow_changes` (model and classes always).
    Without a checkpoint it begins, so that a job that restarts needs one command. Processes of
    torchrun train together.

    Raises ConfigError, DataError, WeightsError or TrainingError; Stopped, whose `exit_code` is 143
    or 130, after SIGTERM or Ctrl-C, when a checkpoint of the last whole step has been written.
    """
    run = Path(out)

    def stage(
        folder: Path, chosen: Recipe, source: str | Path | None, checkpoint: Checkpoint | None
    ) -> None:
        images = micro_batch_size(chosen.train, runtime)
        with explain_oom(images):
            with stop.nothing_to_lose(BEGINNING):
                grad_accum_steps(chosen.train.batch_size, images, runtime.world)
                start = build_setup(data, chosen, source, checkpoint, allow_changes, format)
                training = Trainer(folder, start, runtime, stop)
            with training.journal.display, lost_workers_named(), threads_kept():
                training.run()

    with init_distributed(device) as runtime, stop_requests() as stop:
        with stop.nothing_to_lose(BEGINNING):
            checkpoint = runtime.first(lambda: find_checkpoint(run, resume))
            chosen = choose_recipe(
                model, weights, recipe, overrides, checkpoint, kept_recipe(run, resume), task
            )
            format = format_for(data, chosen, format, task)
            chosen = joint_recipe(chosen) if joint else chosen
            weights = chosen.model.init_weights if weights is None else weights
            before = checkpoint is None and needs_boxes(
                chosen, weights, lambda: open_training(data, chosen, format).categories
            )
            begun = before or checkpoint is not None  # a run goes on as it began
            chosen = with_length(chosen if begun else single_stage_recipe(chosen), epochs, minutes)
            chosen = resolve_micro_batch(chosen, runtime)
            first = None
            if before:
                # Now, rather than when the boxes have been learned, which may take days.
                require_masks(data, chosen, format)
                first = runtime.first(lambda: find_checkpoint(boxes_run(run), resume))
                if first is None or allow_changes:
                    runtime.first(lambda: keep_recipe(run, chosen))
        if before:
            stage(boxes_run(run), box_stage_recipe(chosen), weights, first)
            weights = boxes_run(run)
        stage(run, chosen, weights, checkpoint)
    return Run(run)


@contextmanager
def lost_workers_named() -> Iterator[None]:
    """Turn the death of a process that reads images into a TrainingError that says what to try."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        # The last two come from the pipe of a worker that died while it handed over a batch.
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise TrainingError(
            f"a process that reads images has died ({' '.join(str(error).split())}), often because "
            "memory ran out: try fewer data.workers, and go on with --resume"
        ) from error
