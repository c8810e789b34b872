"""How many images a process takes through the model at once, and what to say when too many."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from setmatch.config import TrainSettings
from setmatch.errors import TrainingError
from setmatch.train.runtime import Runtime

MOST_ON_CPU = 8  # with so many the recipes of the family were tried


def at_once(settings: TrainSettings, runtime: Runtime) -> int:
    """Return the images of a micro-batch; a number in the settings stays what it is.

    "auto" is on a GPU the whole share of a process: a small model's step costs there what its
    launches cost, however many images they are for (benchmarks/gpu.json). On a CPU it is the
    largest part of the share that is no more than 8.
    """
    if settings.micro_batch != "auto":
        return settings.micro_batch
    share = max(settings.batch_size // runtime.world, 1)
    return share if runtime.device.type == "cuda" else _largest_part(share, MOST_ON_CPU)


@contextmanager
def memory_named(images: int) -> Iterator[None]:
    """Turn a GPU's lack of memory for so many images into a TrainingError that says what to try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        fewer = _largest_part(images, images // 2)
        smaller = "take smaller pictures (--set data.short_side_px=...) or a smaller --model"
        advice = (
            f"set train.micro_batch={fewer}, which learns alike and takes fewer images at once, or "
            f"{smaller}"
            if images > 1
            else smaller
        )
        raise TrainingError(
            f"the GPU's memory does not hold {images} image(s) at once: {advice}; where there is a "
            "checkpoint already, go on from it with --resume --allow-changes"
        ) from error


def _largest_part(count: int, most: int) -> int:
    """Return the largest number up to `most` that divides `count`."""
    return max(part for part in range(1, max(most, 1) + 1) if count % part == 0)
