"""The one exchange between hosts in a step: counts, signals and the first process' clock."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from setmatch.data.batches.loader import Minibatch
from setmatch.losses.normalizer import LossNormalizer
from setmatch.training.logging.clock import Clock
from setmatch.training.signals import StopRequest, agreed_signal
from setmatch.training.step import TrainStep

_COUNTS = 4  # of a LossNormalizer


@dataclass(frozen=True)
class Agreement:
    """What all processes know alike before a step.

    `normalizer` counts the images of all of them, `spent_s` are the seconds of the run, and
    `signal_number` is a signal that any of them received; None if none did.
    """

    normalizer: LossNormalizer
    spent_s: float
    signal_number: int | None


def exchange(
    window: Sequence[Minibatch], train_step: TrainStep, clock: Clock, stop: StopRequest
) -> Agreement:
    """Return what all processes agree on before the step on the micro-batches of `window`."""
    distributed = train_step.distributed
    targets = [target for minibatch in window for target in minibatch.targets]
    counts = LossNormalizer.of(targets, train_step.detector.num_queries).counts
    spent_s = torch.tensor([clock.spent_s if distributed.is_first else 0.0])
    total = distributed.sum(torch.cat([counts, spent_s, stop.flags()]))
    return Agreement(
        LossNormalizer(total[:_COUNTS]), total[_COUNTS].item(), agreed_signal(total[_COUNTS + 1 :])
    )
