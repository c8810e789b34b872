"""`train.micro_batch: auto` on a CPU: as many images at once as memory holds.

A GPU that has no more memory says so, and the run continues with half as many images. A system that
has no more memory ends the process without a word, so that what fits must be known before.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from setmatch.data.audit.statistics import resize_scales
from setmatch.data.batches.loader import Minibatch
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import counted
from setmatch.files import process_memory
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks
from setmatch.training.checkpoints.state import facts_of
from setmatch.training.machine import memory
from setmatch.training.machine.micro_batch import is_out_of_memory, micro_batch_size
from setmatch.training.start.setup import TrainingSetup
from setmatch.training.step import TrainStep

USED = 0.8  # fraction of the limit; the rest is for loading images, and for what else runs there
# Many times what detectors take here (0.4 to 2 kB of activations for a pixel), so that nothing is
# tried where memory is plenty.
_PLENTY_PER_PX = 8000
_MOMENTS = 2  # numbers of the optimizer for a parameter, from its first step on
_LONGEST_S = 20.0  # of a trial with one image, so that two are tried


@dataclass(frozen=True)
class LargestImages:
    """The largest training images as a model sees them: their size and number of objects."""

    height_px: int
    width_px: int
    objects: int
    has_masks: bool

    @property
    def pixels(self) -> int:
        """The pixels of one image."""
        return self.height_px * self.width_px

    def minibatch(self, images: int) -> Minibatch:
        """Return a gray minibatch of so many."""
        height, width = self.height_px, self.width_px
        batch = Batch(
            torch.zeros(images, 3, height, width),
            torch.ones(images, height, width, dtype=torch.bool),
            padded=False,
        )
        masks = None
        if self.has_masks:
            masks = PackedMasks.pack(torch.ones(self.objects, height, width, dtype=torch.bool))
        boxes = torch.tensor([0.5, 0.5, 0.2, 0.2]).repeat(self.objects, 1)
        target = Target(torch.zeros(self.objects, dtype=torch.long), boxes, masks)
        return Minibatch(batch, (target,) * images, tuple(range(images)))


def largest_images(
    training: DetectionDataset, preprocessing: Preprocessing, queries: int, has_masks: bool
) -> LargestImages:
    """Return the size that a batch can have at most, after padding, and the most objects.

    More objects than `queries` have no query to match.
    """
    scales = resize_scales(training.sizes_px, preprocessing)
    height, width = np.ceil((training.sizes_px * scales[:, None]).max(axis=0)).astype(int).tolist()
    objects = min(int(np.diff(training.offsets).max()), queries)
    return LargestImages(height, width, objects, has_masks)


def with_fitting_micro_batch(
    setup: TrainingSetup, train_step: TrainStep
) -> tuple[TrainingSetup, str | None]:
    """Return the setup with a number for "auto", and why it is a smaller one, if it is.

    Nothing else changes: no weight, statistic or random number.
    """
    settings = setup.recipe.train
    if settings.micro_batch != "auto":
        return setup, None
    rule = micro_batch_size(settings, train_step.distributed)
    limit = memory.memory_limit()
    images = rule if limit is None else _fitting(rule, limit, setup, train_step)
    train = settings.model_copy(update={"micro_batch": images})
    recipe = setup.recipe.model_copy(update={"train": train})
    resolved = replace(setup, recipe=recipe, facts=facts_of(recipe, setup.data.training))
    if images == rule or limit is None:
        return resolved, None
    return resolved, (
        f"memory: {counted(images, 'image')} at once instead of {rule}, because the limit is "
        f"{limit / 1e9:.1f} GB (train.micro_batch)"
    )


def _fitting(images: int, limit: int, setup: TrainingSetup, train_step: TrainStep) -> int:
    detector = setup.detector
    trained = sum(p.numel() * p.element_size() for p in detector.parameters() if p.requires_grad)
    resident = process_memory.resident_bytes()
    if resident is None:
        return images
    room = int(USED * limit) - resident - _MOMENTS * trained
    largest = largest_images(
        setup.data.training,
        detector.card.preprocessing,
        detector.num_queries,
        detector.mask_head is not None,
    )
    if room >= trained + images * largest.pixels * _PLENTY_PER_PX:
        return images

    def growth(count: int) -> float | None:
        minibatch = largest.minibatch(count)
        try:
            return memory.growth_during(lambda: train_step.rehearse(minibatch))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return math.inf

    return largest_that_fits(images, room, growth)


def largest_that_fits(
    images: int, room: int, growth: Callable[[int], float | None], longest_s: float = _LONGEST_S
) -> int:
    """Return the largest divisor of `images` that fits into `room` bytes, at least 1.

    `growth` tries one image, then two, and returns by how many bytes memory grows; more images are
    on the line through both. Two are not tried if twice the first does not fit, or if it took
    longer than `longest_s`; then every image takes as much as the first. If `growth` does not know,
    all images fit.
    """
    start_s = time.monotonic()
    first = growth(1)
    if first is None:
        return images
    each = first
    if 2 * first <= room and time.monotonic() - start_s <= longest_s:
        second = growth(2)
        each = first if second is None else max(second - first, 0)
    divisors = [count for count in range(1, images + 1) if images % count == 0]
    return max(count for count in divisors if count == 1 or first + (count - 1) * each <= room)
