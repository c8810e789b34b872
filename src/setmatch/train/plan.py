"""The plan of a run as pure functions of the step: epochs, learning rate, what falls due when.

Steps count from 0; "after `step`" means when `step + 1` optimiser steps are done. The data are an
endless stream of epochs, of which every step takes the next `batch_size` images, so that epochs
may end within a step and a step may end several.
"""

import math
from dataclasses import dataclass

import numpy as np

from setmatch.config import TrainSettings


@dataclass(frozen=True)
class Plan:
    """How many steps a run takes over `images` training images, and what happens at each."""

    images: int
    settings: TrainSettings

    @property
    def steps(self) -> int:
        """Return the number of optimiser steps; the last may reach into one more epoch."""
        return math.ceil(self.settings.epochs * self.images / self.settings.batch_size)

    def epoch(self, step: int) -> int:
        """Return the epoch that the first image of `step` belongs to, from 0."""
        return step * self.settings.batch_size // self.images

    def ended(self, step: int) -> int:
        """Return how many epochs have ended after `step`."""
        if step + 1 >= self.steps:
            return self.settings.epochs
        return (step + 1) * self.settings.batch_size // self.images

    def evaluates(self, step: int) -> bool:
        """Say whether an evaluation is due after `step`; the last step always has one."""
        every = self.settings.evaluate_every
        due = self.ended(step) // every > self.ended(step - 1) // every
        return due or step + 1 == self.steps

    def saves(self, step: int) -> bool:
        """Say whether a checkpoint is due after `step`: every n steps, and when an epoch ends."""
        return (
            (step + 1) % self.settings.checkpoint_every == 0
            or self.ended(step) > self.ended(step - 1)
            or self.evaluates(step)
        )

    def logs(self, step: int) -> bool:
        """Say whether a log line is due after `step`; every checkpoint has one, to resume from."""
        return (step + 1) % self.settings.log_every == 0 or self.saves(step)

    def lr_factor(self, step: int) -> float:
        """Return what the learning rates are multiplied by at `step`.

        Linear warm-up, then a drop to a tenth at `drop_epoch` (published) or a half cosine to 0.
        """
        settings = self.settings
        warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        if settings.schedule == "drop":
            return warmup * (0.1 if self.epoch(step) >= settings.drop_epoch else 1.0)
        span = max(1, self.steps - settings.warmup_steps)
        progress = min(1.0, max(0, step - settings.warmup_steps) / span)
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))

    def seed(self, step: int, rank: int) -> int:
        """Return the seed of everything random in the model (dropout) at `step` in process `rank`.

        A function of the step, so that neither an evaluation nor a resume in between changes it.
        """
        sequence = np.random.SeedSequence([self.settings.seed, step, rank])
        return int(sequence.generate_state(1, np.uint64)[0])
