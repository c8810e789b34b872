"""The schedule of a run: its length, the learning rate, and when to log, save and evaluate.

Steps count from 0; "after `step`" means when `step + 1` optimizer steps are done. Epochs follow
each other without a break, and every step takes the next `batch_size` images. An epoch may thus end
within a step, and several may end in one. In a run of epochs everything is a function of the step;
in a time-based run it also depends on `spent_s`, the seconds of training so far.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from setmatch.config import TrainSettings
from setmatch.training.schedule.progressive_resizing import resolution_scale

# For time-based runs:
CLOCK_STAGES = 10  # each ends with a checkpoint, and with an evaluation if time allows
MAX_EVALUATION_FRACTION = 0.03  # of the time so far, for all evaluations
MAX_FIRST_EVALUATION_FRACTION = 0.1  # of the run, for the first evaluation
CLOCK_WARMUP = 0.02  # of the run
ENDLESS = 10**12


@dataclass(frozen=True)
class Schedule(ABC):
    """What is due at each step of a run; see `make_schedule`."""

    images: int  # in the training split
    settings: TrainSettings
    validation_images: int = 0

    by_clock: ClassVar[bool]  # True for a time-based run, which minutes end, not epochs

    @property
    @abstractmethod
    def steps(self) -> int:
        """The maximum number of optimizer steps."""

    @abstractmethod
    def progress(self, step: int, spent_s: float) -> float:
        """Return the fraction of the run that lies before `step`, in [0, 1]."""

    @abstractmethod
    def evaluation_due(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluation_s: float = 0.0
    ) -> bool:
        """Return whether an evaluation is due after `step`.

        The step lasted from `before_s` to `after_s`; earlier evaluations took `evaluation_s`.
        """

    @property
    def last_stage_start(self) -> int | None:
        """The step before which the run returns to its best state; None if it never does."""
        return None

    @abstractmethod
    def matches_by_quality(self, step: int, spent_s: float = 0.0) -> bool:
        """Return whether `step` matches queries by `matching.quality` alone."""

    @abstractmethod
    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Return whether `step` ends an epoch, or a tenth of a time-based run."""

    @abstractmethod
    def _warmup(self, step: int, spent_s: float) -> float:
        """Return the factor of a linear warm-up at `step`, in (0, 1]."""

    @abstractmethod
    def _dropped(self, step: int, spent_s: float) -> bool:
        """Return whether `step` comes after the learning rate drop of the published schedule."""

    @abstractmethod
    def _cosine_progress(self, step: int, spent_s: float) -> float:
        """Return the cosine schedule's progress at `step`, in [0, 1]."""

    def is_over(self, step: int, spent_s: float) -> bool:
        """Return whether the run ends before `step`."""
        return self.progress(step, spent_s) >= 1

    def epoch(self, step: int) -> int:
        """Return the epoch that the first image of `step` belongs to, from 0."""
        return step * self.settings.batch_size // self.images

    def epochs_ended(self, step: int) -> int:
        """Return the number of epochs that have ended after `step`."""
        return self.epoch(step + 1)

    def checkpoint_due(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Return whether a checkpoint is due after `step`: every n steps and with every epoch
        or, in a time-based run, every tenth of it.
        """
        due = (step + 1) % self.settings.checkpoint_every == 0
        return due or self._stage_ends(step, before_s, after_s)

    def log_due(self, step: int, before_s: float = 0.0, after_s: float = 0.0) -> bool:
        """Return whether a log line is due after `step`: every n steps and with every checkpoint.

        The first step is logged too: its losses are those of the initial weights.
        """
        due = step == 0 or (step + 1) % self.settings.log_every == 0
        return due or self.checkpoint_due(step, before_s, after_s)

    def lr_factor(self, step: int, spent_s: float = 0.0) -> float:
        """Return the factor on the learning rates at `step`.

        It is a warm-up, linear or squared, times a drop to a tenth (published) or a half cosine to
        `final_lr`.
        """
        if self.settings.schedule == "drop":
            decay = 0.1 if self._dropped(step, spent_s) else 1.0
        else:
            fall = 0.5 * (1 + math.cos(math.pi * self._cosine_progress(step, spent_s)))
            decay = self.settings.final_lr + (1 - self.settings.final_lr) * fall
        warmup = self._warmup(step, spent_s)
        return (warmup**2 if self.settings.warmup == "quadratic" else warmup) * decay

    def resolution_scale(self, step: int, spent_s: float = 0.0) -> float:
        """Return the factor on image sides at `step`.

        It is 1 at the first step, so that a lack of memory shows at once.
        """
        if step == 0:
            return 1.0
        return resolution_scale(self.progress(step, spent_s), self.settings.full_size_at)

    def seed(self, step: int, micro_batch: int) -> int:
        """Return the seed of everything random in the model (dropout, denoising) at `step`.

        `micro_batch` counts over all processes. Evaluations, interruptions and the number of
        processes thus do not change the random numbers of an image.
        """
        sequence = np.random.SeedSequence([self.settings.seed, step, micro_batch])
        return int(sequence.generate_state(1, np.uint64)[0])


@dataclass(frozen=True)
class EpochSchedule(Schedule):
    """The schedule of a run of epochs, a function of the step alone."""

    by_clock = False

    @property
    def steps(self) -> int:
        """The number of steps that covers all epochs; the last may reach into one more."""
        return math.ceil(self.settings.num_epochs * self.images / self.settings.batch_size)

    @property
    def last_stage_start(self) -> int | None:
        """The first step whose images are of an epoch from `return_to_best_at` on."""
        if self.settings.return_to_best_at >= 1:
            return None
        return self._first_step(self.settings.return_to_best_at)

    def _first_step(self, fraction: float) -> int:
        """Return the first step whose images are of an epoch from a fraction of all epochs on."""
        epoch = math.ceil(fraction * self.settings.num_epochs)
        return math.ceil(epoch * self.images / self.settings.batch_size)

    def matches_by_quality(self, step: int, spent_s: float = 0.0) -> bool:
        """Return True from the first whole epoch on."""
        return step >= self._first_step(self.settings.match_by_quality_from)

    def progress(self, step: int, spent_s: float) -> float:
        """Return the fraction of steps that are done."""
        return step / self.steps

    def epochs_ended(self, step: int) -> int:
        """Return the number of epochs that have ended after `step`, at most those of the run."""
        return min(self.settings.num_epochs, super().epochs_ended(step))

    def evaluation_due(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluation_s: float = 0.0
    ) -> bool:
        """Return True every n epochs and after the last step."""
        every = self.settings.epochs_per_evaluation
        due = self.epochs_ended(step) // every > self.epochs_ended(step - 1) // every
        return due or step + 1 == self.steps

    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Return True if an epoch ends or an evaluation is due."""
        return self.epochs_ended(step) > self.epochs_ended(step - 1) or self.evaluation_due(step)

    def _warmup(self, step: int, spent_s: float) -> float:
        """Return the factor of a linear warm-up over `warmup_steps`."""
        return min(1.0, (step + 1) / max(1, self.settings.warmup_steps))

    def _dropped(self, step: int, spent_s: float) -> bool:
        """Return True from `drop_epoch` on."""
        return self.epoch(step) >= self.settings.drop_epoch

    def _cosine_progress(self, step: int, spent_s: float) -> float:
        """Return the progress counted from the end of the warm-up, or from `cosine_from`."""
        settings = self.settings
        start = max(settings.warmup_steps, settings.cosine_from * self.steps)
        length = settings.cosine_until * self.steps - start
        return min(1.0, max(0, step - start) / max(1, length))


@dataclass(frozen=True)
class TimeSchedule(Schedule):
    """The schedule of a time-based run, a function of the time spent."""

    by_clock = True

    @property
    def steps(self) -> int:
        """A number above that of any run: the clock ends it."""
        return ENDLESS

    def matches_by_quality(self, step: int, spent_s: float = 0.0) -> bool:
        """Return True once that fraction of the time is spent."""
        start = self.settings.match_by_quality_from
        return start < 1 and self.progress(step, spent_s) >= start

    def progress(self, step: int, spent_s: float) -> float:
        """Return the fraction of the time that is spent."""
        return min(1.0, spent_s / (60 * self.settings.minutes))

    def evaluation_due(
        self, step: int, before_s: float = 0.0, after_s: float = 0.0, evaluation_s: float = 0.0
    ) -> bool:
        """Return True at every tenth of the run, if evaluations take little of its time.

        The first one's time is estimated: evaluating an image takes at most as long as a training
        image did.
        """
        if not self._stage_ends(step, before_s, after_s):
            return False
        if evaluation_s:
            return evaluation_s <= MAX_EVALUATION_FRACTION * after_s
        estimate_s = self.validation_images * after_s / ((step + 1) * self.settings.batch_size)
        return estimate_s <= MAX_FIRST_EVALUATION_FRACTION * 60 * self.settings.minutes

    def _stage_ends(self, step: int, before_s: float, after_s: float) -> bool:
        """Return True at every tenth of the run: epochs may be shorter than saving takes."""
        before, after = self.progress(step, before_s), self.progress(step + 1, after_s)
        return int(after * CLOCK_STAGES) > int(before * CLOCK_STAGES)

    def _warmup(self, step: int, spent_s: float) -> float:
        """Return a factor above 0 at the first step, which would be wasted otherwise."""
        return min(1.0, (self.progress(step, spent_s) + 1e-3) / CLOCK_WARMUP)

    def _dropped(self, step: int, spent_s: float) -> bool:
        """Return True after two thirds of the time: the published 300 epochs drop after 200."""
        return self.progress(step, spent_s) >= 2 / 3

    def _cosine_progress(self, step: int, spent_s: float) -> float:
        """Return the progress from `cosine_from` to `cosine_until`."""
        start, end = self.settings.cosine_from, self.settings.cosine_until
        done = self.progress(step, spent_s) - start
        return min(1.0, max(0.0, done) / max(end - start, 1e-9))


def make_schedule(images: int, settings: TrainSettings, validation_images: int = 0) -> Schedule:
    """Return a time-based schedule if `settings` has minutes, else one of epochs."""
    kind = TimeSchedule if settings.minutes > 0 else EpochSchedule
    return kind(images, settings, validation_images)
