"""The number of images in one forward pass, and what happens when memory runs out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from setmatch.config import Recipe, TrainSettings
from setmatch.distributed import Distributed
from setmatch.errors import TrainingError, counted
from setmatch.structures.batch import Batch

# Fewer than 4 images are too few for batch norms; more than 8 were not measured.
MIN_ON_CPU, MAX_ON_CPU = 4, 8


def resolve_micro_batch(recipe: Recipe, distributed: Distributed) -> Recipe:
    """Return the recipe with a number for "auto", so that a resumed run keeps it on any machine.

    One process on a CPU leaves it "auto" until it knows what fits (fit_micro_batch.py).
    """
    if distributed.world == 1 and distributed.device.type == "cpu":
        return recipe
    stages = {"train": recipe.train, "box_stage": recipe.box_stage}
    resolved = {
        name: settings
        and settings.model_copy(update={"micro_batch": micro_batch_size(settings, distributed)})
        for name, settings in stages.items()
    }
    return recipe.model_copy(update=resolved)


def micro_batch_size(settings: TrainSettings, distributed: Distributed) -> int:
    """Return the number of images in a micro-batch; "auto" depends on the device.

    On a GPU, "auto" is a process' whole part of the batch: a small model's step is bound by kernel
    launches, whatever the number of images (benchmarks/gpu.json). On a CPU it is the largest
    divisor of that part up to 8, or the whole part if that divisor is below 4; memory may not hold
    as many (fit_micro_batch.py).
    """
    if settings.micro_batch != "auto":
        return settings.micro_batch
    images = max(settings.batch_size // distributed.world, 1)
    divisor = _largest_divisor(images, MAX_ON_CPU)
    on_gpu = distributed.device.type == "cuda"
    return images if on_gpu or divisor < MIN_ON_CPU else divisor


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a GPU, or a CPU with a limit, has no more memory."""
    return isinstance(
        error, torch.OutOfMemoryError | MemoryError
    ) or "DefaultCPUAllocator: can't allocate memory" in str(error)


@contextmanager
def explain_oom(images: int) -> Iterator[None]:
    """Turn an out-of-memory error into a TrainingError with advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        smaller = "use smaller images (--set data.short_side_px=...) or a smaller --model"
        half = _largest_divisor(images, images // 2)
        fewer = f"set train.micro_batch={half}, or " if images > 1 else ""
        raise TrainingError(
            f"out of memory with {counted(images, 'image')} at once: {fewer}{smaller}; if "
            "there is a checkpoint, continue from it with --resume --allow-changes"
        ) from error


@contextmanager
def explain_single_value(batch: Batch) -> Iterator[None]:
    """Turn torch's error about a batch norm with one value a channel into one with advice."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        height, width = batch.pixels.shape[-2:]
        raise TrainingError(
            f"a batch norm of the model sees one value alone in {len(batch.pixels)} image of "
            f"{width}x{height} px, and cannot normalize it: set train.micro_batch=2 or more, or "
            "use larger images (--set data.short_side_px=...)"
        ) from error


def _largest_divisor(count: int, limit: int) -> int:
    return max(part for part in range(1, max(limit, 1) + 1) if count % part == 0)
