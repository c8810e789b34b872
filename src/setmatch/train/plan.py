"""The plan of a run: epochs or minutes, learning rate, what falls due when.

Steps count from 0; "after `step`" means when `step + 1` optimiser steps are done. The data are an
endless stream of epochs, of which every step takes the next `batch_size` images, so that epochs
may end within a step and a step may end several. By epochs everything is a function of the step
alone; by the clock it is one of the step and of `spent_s`, the seconds of training so far.
"""

import math
from dataclasses import dataclass

import numpy as np

from setmatch.config import TrainSettings
from setmatch.train.growing import share_of_sides

CLOCK_EVALUATIONS = 10  # of a run by the clock
CLOCK_EVALUATING = 0.03  # of its time so far at most
CLOCK_FIRST = 0.1  # of all its time, at most the first of them
CLOCK_WARMUP = 0.02  # of its time
ENDLESS = 10**12


@dataclass(frozen=True)
class Plan:
    """How long a run over `images` training images takes, and what happens at each step.

    Evaluations answer `unseen` images.
    """

    images: int
    settings: TrainSettings
    unseen: int = 0

    @property
    def by_clock(self) -> bool:
        """True when minutes end the run, not epochs."""
        return self.settings.minutes > 0

    @property
    def steps(self) -> int:
        """Return the number of optimiser steps at most; the last may reach into one more epoch."""
        if self.by_clock:
            return ENDLESS
        return math.ceil(self.settings.epochs * self.images / self.settings.batch_size)

    def progress(self, step: int, spent_s: float) -> float:
        """Return how much of the run lies before `step`, 0 to 1."""
        if self.by_clock:
            return min(1.0, spent_s / (60 * self.settings.minutes))
        return step / self.steps

    def over(self, step: int, spent_s: float) -> bool:
        """Say whether the run ends before `step`."""
        return self.progress(step, spent_s) >= 1

    def epoch(self, step: int) -> int:
        """Return the epoch that the first image of `step` belongs to, from 0."""
        return step * self.settings.batch_size // self.images

    def ended(self, step: int) -> int:
        """Return how many epochs have ended after `step`."""
        if step + 1 >= self.steps:
            return self.settings.epochs
        return (step + 1) * self.settings.batch_size // self.images

    def evaluates(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluating_s: float = 0.0
    ) -> bool:
        """Say whether an evaluation is due after `step`, which lasted from `before_s` to `after_s`.

        By epochs every n of them and after the last step; by the clock at every tenth, as long as
        the evaluations before, `evaluating_s` in all, took little of its time. Before any did, as
        long as it will not take much: no image takes longer to answer than to learn from.
        """
        if self.by_clock:
            return self._tenth_ends(step, before_s, after_s) and self._affords(
                step, after_s, evaluating_s
            )
        every = self.settings.evaluate_every
        due = self.ended(step) // every > self.ended(step - 1) // every
        return due or step + 1 == self.steps

    def _tenth_ends(self, step: int, before_s: float, after_s: float) -> bool:
        before, after = self.progress(step, before_s), self.progress(step + 1, after_s)
        return int(after * CLOCK_EVALUATIONS) > int(before * CLOCK_EVALUATIONS)

    def _affords(self, step: int, after_s: float, evaluating_s: float) -> bool:
        if evaluating_s:
            return evaluating_s <= CLOCK_EVALUATING * after_s
        foreseen_s = self.unseen * after_s / ((step + 1) * self.settings.batch_size)
        return foreseen_s <= CLOCK_FIRST * 60 * self.settings.minutes

    def saves(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Say whether a checkpoint is due after `step`: every n steps, and with evaluations.

        By epochs also when one ends; by the clock they may be shorter than a checkpoint takes.
        """
        if (step + 1) % self.settings.checkpoint_every == 0:
            return True
        if self.by_clock:  # at every tenth, whether its evaluation can be afforded or not
            return self._tenth_ends(step, before_s, after_s)
        return self.ended(step) > self.ended(step - 1) or self.evaluates(step)

    def logs(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Say whether a log line is due after `step`: every n steps and with every checkpoint.

        Also after the very first, whose losses are those of the weights that training begins with.
        """
        due = step == 0 or (step + 1) % self.settings.log_every == 0
        return due or self.saves(step, before_s, after_s)

    def lr_factor(self, step: int, spent_s: float = 0.0) -> float:
        """Return what the learning rates are multiplied by at `step`.

        Linear warm-up, then a drop to a tenth at `drop_epoch` (published; by the clock after two
        thirds of the time) or a half cosine to 0.
        """
        settings, progress = self.settings, self.progress(step, spent_s)
        if self.by_clock:
            # Not from 0: the first step would be wasted.
            warmup = min(1.0, (progress + 1e-3) / CLOCK_WARMUP)
        else:
            warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
        if settings.schedule == "drop":
            late = progress >= 2 / 3 if self.by_clock else self.epoch(step) >= settings.drop_epoch
            return warmup * (0.1 if late else 1.0)
        if not self.by_clock:
            span = max(1, self.steps - settings.warmup_steps)
            progress = min(1.0, max(0, step - settings.warmup_steps) / span)
        return warmup * 0.5 * (1 + math.cos(math.pi * progress))

    def share_of_sides(self, step: int, spent_s: float = 0.0) -> float:
        """Return the share of their full sides that pictures have at `step`.

        All at the very first, so that memory that does not suffice shows at once.
        """
        if step == 0:
            return 1.0
        return share_of_sides(self.progress(step, spent_s), self.settings.grown)

    def seed(self, step: int, part: int) -> int:
        """Return the seed of everything random in the model (dropout, denoising) at `step`.

        `part` numbers the micro-batches of the step over all processes. So neither an evaluation,
        nor a resume, nor another number of processes changes what is drawn for an image.
        """
        sequence = np.random.SeedSequence([self.settings.seed, step, part])
        return int(sequence.generate_state(1, np.uint64)[0])
