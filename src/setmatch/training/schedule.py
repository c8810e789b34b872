"""The plan of a run: epochs or minutes, learning rate, what falls due when.

Steps count from 0; "after `step`" means when `step + 1` optimizer steps are done. The data are an
endless stream of epochs, of which every step takes the next `batch_size` images, so that epochs
may end within a step and a step may end several. By epochs everything is a function of the step
alone; by the clock it is one of the step and of `spent_s`, the seconds of training so far.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from setmatch.config import TrainSettings
from setmatch.training.progressive_resizing import resolution_scale

CLOCK_EVALUATIONS = 10  # of a run by the clock
CLOCK_EVALUATING = 0.03  # of its time so far at most
CLOCK_FIRST = 0.1  # of all its time, at most the first of them
CLOCK_WARMUP = 0.02  # of its time
ENDLESS = 10**12


@dataclass(frozen=True)
class Schedule(ABC):
    """What happens at each step of a run over `images` training images; see `make_schedule`.

    Evaluations answer `unseen` images.
    """

    images: int
    settings: TrainSettings
    unseen: int = 0

    by_clock: ClassVar[bool]  # True where minutes end the run, not epochs

    @property
    @abstractmethod
    def steps(self) -> int:
        """Return the number of optimizer steps at most."""

    @abstractmethod
    def progress(self, step: int, spent_s: float) -> float:
        """Return how much of the run lies before `step`, 0 to 1."""

    @abstractmethod
    def evaluates(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluating_s: float = 0.0
    ) -> bool:
        """Say whether an evaluation is due after `step`, which lasted from `before_s` to `after_s`.

        Evaluations before took `evaluating_s` in all.
        """

    @abstractmethod
    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Say whether something worth a checkpoint ends with `step`."""

    @abstractmethod
    def _warmup(self, step: int, spent_s: float) -> float:
        """Return the share of their learning rates that `step` has, 1 after the warm-up."""

    @abstractmethod
    def _dropped(self, step: int, spent_s: float) -> bool:
        """Say whether `step` comes after the drop of the published schedule."""

    @abstractmethod
    def _along_cosine(self, step: int, spent_s: float) -> float:
        """Return how much of the half cosine lies before `step`, 0 to 1."""

    def over(self, step: int, spent_s: float) -> bool:
        """Say whether the run ends before `step`."""
        return self.progress(step, spent_s) >= 1

    def epoch(self, step: int) -> int:
        """Return the epoch that the first image of `step` belongs to, from 0."""
        return step * self.settings.batch_size // self.images

    def ended(self, step: int) -> int:
        """Return how many epochs have ended after `step`."""
        return self.epoch(step + 1)

    def saves(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Say whether a checkpoint is due after `step`: every n steps, and when a stage ends."""
        due = (step + 1) % self.settings.checkpoint_every == 0
        return due or self._stage_ends(step, before_s, after_s)

    def logs(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Say whether a log line is due after `step`: every n steps and with every checkpoint.

        Also after the very first, whose losses are those of the weights that training begins with.
        """
        due = step == 0 or (step + 1) % self.settings.log_every == 0
        return due or self.saves(step, before_s, after_s)

    def lr_factor(self, step: int, spent_s: float = 0.0) -> float:
        """Return what the learning rates are multiplied by at `step`.

        Linear warm-up, then a drop to a tenth (published) or a half cosine to 0.
        """
        if self.settings.schedule == "drop":
            late = 0.1 if self._dropped(step, spent_s) else 1.0
        else:
            late = 0.5 * (1 + math.cos(math.pi * self._along_cosine(step, spent_s)))
        return self._warmup(step, spent_s) * late

    def resolution_scale(self, step: int, spent_s: float = 0.0) -> float:
        """Return the share of their full sides that pictures have at `step`.

        All at the very first, so that memory that does not suffice shows at once.
        """
        if step == 0:
            return 1.0
        return resolution_scale(self.progress(step, spent_s), self.settings.full_size_at)

    def seed(self, step: int, part: int) -> int:
        """Return the seed of everything random in the model (dropout, denoising) at `step`.

        `part` numbers the micro-batches of the step over all processes. So neither an evaluation,
        nor a resume, nor another number of processes changes what is drawn for an image.
        """
        sequence = np.random.SeedSequence([self.settings.seed, step, part])
        return int(sequence.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class EpochSchedule(Schedule):
    """A run of a number of epochs, in which the step alone says what is due."""

    by_clock = False

    @property
    def steps(self) -> int:
        """Return as many as the images of all epochs fill; the last may reach into one more."""
        return math.ceil(self.settings.epochs * self.images / self.settings.batch_size)

    def progress(self, step: int, spent_s: float) -> float:
        """Return the share of the steps that are done."""
        return step / self.steps

    def ended(self, step: int) -> int:
        """Return how many epochs have ended after `step`, never more than the run has."""
        return min(self.settings.epochs, super().ended(step))

    def evaluates(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluating_s: float = 0.0
    ) -> bool:
        """Say so every n epochs and after the last step."""
        every = self.settings.evaluate_every
        due = self.ended(step) // every > self.ended(step - 1) // every
        return due or step + 1 == self.steps

    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Say so when an epoch ends, and with evaluations."""
        return self.ended(step) > self.ended(step - 1) or self.evaluates(step)

    def _warmup(self, step: int, spent_s: float) -> float:
        """Return 1 from the start where there are no warm-up steps."""
        return min(1.0, (step + 1) / max(1, self.settings.warmup_steps))

    def _dropped(self, step: int, spent_s: float) -> bool:
        """Say so from `drop_epoch` on."""
        return self.epoch(step) >= self.settings.drop_epoch

    def _along_cosine(self, step: int, spent_s: float) -> float:
        """Return how much of it: it begins where the warm-up ends."""
        warmup = self.settings.warmup_steps
        return min(1.0, max(0, step - warmup) / max(1, self.steps - warmup))


@dataclass(frozen=True)
class TimeSchedule(Schedule):
    """A run of a number of minutes, in which the time that is spent says what is due."""

    by_clock = True

    @property
    def steps(self) -> int:
        """Return more than any run takes: the clock ends it."""
        return ENDLESS

    def progress(self, step: int, spent_s: float) -> float:
        """Return the share of the time that is spent."""
        return min(1.0, spent_s / (60 * self.settings.minutes))

    def evaluates(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluating_s: float = 0.0
    ) -> bool:
        """Say so at every tenth, as long as the evaluations before took little of its time.

        Before any did, as long as it will not take much: no image takes longer to answer than to
        learn from.
        """
        if not self._stage_ends(step, before_s, after_s):
            return False
        if evaluating_s:
            return evaluating_s <= CLOCK_EVALUATING * after_s
        foreseen_s = self.unseen * after_s / ((step + 1) * self.settings.batch_size)
        return foreseen_s <= CLOCK_FIRST * 60 * self.settings.minutes

    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Say so at every tenth: an epoch may be shorter than a checkpoint takes."""
        before, after = self.progress(step, before_s), self.progress(step + 1, after_s)
        return int(after * CLOCK_EVALUATIONS) > int(before * CLOCK_EVALUATIONS)

    def _warmup(self, step: int, spent_s: float) -> float:
        """Return it not from 0: the first step would be wasted."""
        return min(1.0, (self.progress(step, spent_s) + 1e-3) / CLOCK_WARMUP)

    def _dropped(self, step: int, spent_s: float) -> bool:
        """Say so after two thirds of the time, as the published 300 epochs drop after 200."""
        return self.progress(step, spent_s) >= 2 / 3

    def _along_cosine(self, step: int, spent_s: float) -> float:
        """Return how much of it: it is as long as the run."""
        return self.progress(step, spent_s)


def make_schedule(images: int, settings: TrainSettings, unseen: int = 0) -> Schedule:
    """Return the plan by the clock where `settings` has minutes, by epochs where not."""
    kind = TimeSchedule if settings.minutes > 0 else EpochSchedule
    return kind(images, settings, unseen)
