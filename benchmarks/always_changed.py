"""Train as setmatch does, but change every picture that has been seen often, not every other time.

    python benchmarks/always_changed.py train DATA --model setmatch_n --weights none --minutes 30

The arguments are those of `setmatch`.
"""

import sys
from dataclasses import replace

import torch
from torchvision.transforms import v2

from setmatch.cli import main
from setmatch.data.loader import Seen, _TrainingSamples
from setmatch.data.order import Place
from setmatch.data.transforms import Augmentation, Light, RandomView
from setmatch.structures import Target

OFTEN = 60  # epochs
sample = _TrainingSamples._sample


def always(usual: Augmentation) -> Augmentation:
    """Return the steps of "small", of which each is always taken."""
    grey = tuple(round(255 * mean) for mean in usual.preprocessing.mean)
    view = RandomView(0.35, grey, usual.preprocessing)
    steps = [v2.RandomHorizontalFlip(0.5), view, Light(0.3)]
    return replace(usual, pipeline=v2.Compose(steps))


def seen_often(
    self: _TrainingSamples, place: Place, problems: list[str]
) -> tuple[torch.Tensor, Target, int, Seen] | None:
    """Return a sample, always changed from the epoch OFTEN on."""
    usual = self._transform
    assert isinstance(usual, Augmentation), "it is the recipe's"
    self._transform = always(usual) if place[0] >= OFTEN else usual
    try:
        return sample(self, place, problems)
    finally:
        self._transform = usual


if __name__ == "__main__":
    _TrainingSamples._sample = seen_often  # type: ignore[method-assign]
    sys.exit(main())
