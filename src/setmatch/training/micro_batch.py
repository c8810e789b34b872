"""How many images a process takes through the model at once, and what to say when too many."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from setmatch.config import Recipe, TrainSettings
from setmatch.distributed import Distributed
from setmatch.errors import TrainingError

LEAST_ON_CPU, MOST_ON_CPU = 4, 8  # fewer are too few for batch norms; 8 is what was tried


def resolve_micro_batch(recipe: Recipe, runtime: Distributed) -> Recipe:
    """Return the recipe with a number for "auto", by which a run goes on wherever it is resumed."""
    stages = {"train": recipe.train, "box_stage": recipe.box_stage}
    numbers = {
        name: settings
        and settings.model_copy(update={"micro_batch": micro_batch_size(settings, runtime)})
        for name, settings in stages.items()
    }
    return recipe.model_copy(update=numbers)


def micro_batch_size(settings: TrainSettings, runtime: Distributed) -> int:
    """Return the images of a micro-batch; a number in the settings stays what it is.

    "auto" is on a GPU the whole share of a process: a small model's step costs there what its
    launches cost, however many images they are for (benchmarks/gpu.json). On a CPU it is the
    largest part of the share up to 8, or all of it where such parts would be tiny.
    """
    if settings.micro_batch != "auto":
        return settings.micro_batch
    share = max(settings.batch_size // runtime.world, 1)
    part = _largest_part(share, MOST_ON_CPU)
    return share if runtime.device.type == "cuda" or part < LEAST_ON_CPU else part


@contextmanager
def explain_oom(images: int) -> Iterator[None]:
    """Turn a GPU's lack of memory for so many images into a TrainingError that says what to try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = "take smaller pictures (--set data.short_side_px=...) or a smaller --model"
        fewer = (
            f"set train.micro_batch={_largest_part(images, images // 2)}, or " if images > 1 else ""
        )
        raise TrainingError(
            f"the GPU's memory does not hold {images} image(s) at once: {fewer}{smaller}; where "
            "there is a checkpoint already, go on from it with --resume --allow-changes"
        ) from error


def _largest_part(count: int, most: int) -> int:
    """Return the largest number up to `most` that divides `count`."""
    return max(part for part in range(1, max(most, 1) + 1) if count % part == 0)
