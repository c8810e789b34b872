"""The order of training images: shuffled epochs, split over optimizer steps and processes.

The order depends only on numbers (seed, epoch, step, rank), not on saved state, so that training
can resume at any step and on any number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from setmatch.errors import ConfigError, counted

Place = tuple[int, int]  # epoch, number of the image in the data set


def grad_accum_steps(batch_size: int, micro_batch: int, world: int) -> int:
    """Return how many micro-batches each process accumulates per optimizer step.

    Raises ConfigError unless `micro_batch` × `world` divides `batch_size`.
    """
    count, rest = divmod(batch_size, micro_batch * world)
    if rest or not count:
        fitting = max(count, 1) * micro_batch * world
        raise ConfigError(
            f"train.batch_size = {batch_size} cannot be divided into micro-batches of "
            f"{micro_batch} for {counted(world, 'process')}; set "
            f"train.batch_size={fitting}, or change train.micro_batch or the number of processes"
        )
    return count


def permutation(seed: int, epoch: int, images: int) -> Int64[np.ndarray, " N"]:
    """Return the order of all images in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(images)


def sample_seed(seed: int, epoch: int, image: int) -> int:
    """Return the 64-bit seed for all random numbers of one sample."""
    return int(np.random.SeedSequence([seed, epoch, image]).generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class TrainSampler:
    """The micro-batches of one process for `steps` optimizer steps, starting at `first_step`.

    The permutations of epochs 0, 1, 2, ... form one endless stream, in which each image appears
    exactly once per epoch. Step t takes positions t · batch_size to (t + 1) · batch_size of it.
    Micro-batch a of rank r starts at position t · batch_size + (a · world + r) · micro_batch.
    """

    images: int
    batch_size: int
    micro_batch: int
    rank: int
    world: int
    first_step: int
    steps: int
    seed: int

    def __len__(self) -> int:
        return self.steps * grad_accum_steps(self.batch_size, self.micro_batch, self.world)

    def __iter__(self) -> Iterator[list[Place]]:
        parts = grad_accum_steps(self.batch_size, self.micro_batch, self.world)
        current, order = -1, permutation(self.seed, 0, self.images)
        for step in range(self.first_step, self.first_step + self.steps):
            for part in range(parts):
                offset = (part * self.world + self.rank) * self.micro_batch
                places = []
                for position in range(self.micro_batch):
                    epoch, rank_in_epoch = divmod(
                        step * self.batch_size + offset + position, self.images
                    )
                    if epoch != current:
                        current, order = epoch, permutation(self.seed, epoch, self.images)
                    places.append((epoch, int(order[rank_in_epoch])))
                yield places
