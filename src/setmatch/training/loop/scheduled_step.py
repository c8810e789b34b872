"""A step as the schedule wants it, on as many images at once as memory holds."""

from collections.abc import Sequence

import torch

from setmatch.data.batches.loader import Minibatch
from setmatch.data.batches.sampler import grad_accum_steps
from setmatch.losses.normalizer import LossNormalizer
from setmatch.training.loop.open_run import OpenRun
from setmatch.training.machine.micro_batch import is_out_of_memory, micro_batch_size
from setmatch.training.optim.optimizer import set_learning_rates
from setmatch.training.step import StepResult


class ScheduledStep:
    """Takes the steps of a run: learning rate, seeds, image size and matching are the schedule's.

    Where memory does not suffice, one process repeats the step in smaller parts, and keeps to them.
    """

    def __init__(self, run: OpenRun) -> None:
        self._run = run
        self._micro_batch = micro_batch_size(run.settings, run.distributed)
        self._parts = 1  # in which a micro-batch is computed

    @property
    def images_at_once(self) -> int:
        """The number of images in one forward pass; it falls when memory runs out."""
        return -(-self._micro_batch // self._parts)

    @property
    def micro_batches(self) -> int:
        """The number of micro-batches that this process loads for a step."""
        return grad_accum_steps(
            self._run.settings.batch_size, self._micro_batch, self._run.distributed.world
        )

    def take(
        self, window: Sequence[Minibatch], normalizer: LossNormalizer, step: int, spent_s: float
    ) -> StepResult:
        """Take one optimizer step on the micro-batches of `window`."""
        factor = self._run.schedule.lr_factor(step, spent_s)
        set_learning_rates(self._run.train_step.optimizer, factor)
        result = self._try(window, normalizer, step, spent_s)
        while result is None:  # no more memory; what it held is free by now
            torch.cuda.empty_cache()
            result = self._try(window, normalizer, step, spent_s)
        return result

    def _try(
        self, window: Sequence[Minibatch], normalizer: LossNormalizer, step: int, spent_s: float
    ) -> StepResult | None:
        """Take a step; None, with smaller parts from now on, if memory does not suffice."""
        schedule = self._run.schedule
        rank, world = self._run.distributed.rank, self._run.distributed.world
        parts = [part for minibatch in window for part in minibatch.split(self._parts)]
        seeds = [
            schedule.seed(step, micro_batch)
            for micro_batch in range(rank, len(parts) * world, world)
        ]
        scale = schedule.resolution_scale(step, spent_s)
        by_quality = schedule.matches_by_quality(step, spent_s)
        try:
            return self._run.train_step.step(parts, normalizer, seeds, scale, by_quality)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or world > 1 or self.images_at_once == 1:
                raise
        before = self.images_at_once
        self._parts *= 2
        self._run.logger.say(
            f"warning: out of memory at step {step + 1} with {before} images at once; from now on "
            f"{self.images_at_once} at once, with the same batch size"
        )
        return None
