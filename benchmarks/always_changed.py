"""Train as setmatch does, but change every picture that has been seen often, not every other one.

    python benchmarks/always_changed.py train DATA --minutes 30 --set data.workers=0

The arguments are those of `setmatch`; `data.augment` must be "small". Pictures are read in this
process, or in ones that are forked from it.
"""

import sys
from dataclasses import replace

import torch
from torchvision.transforms import v2

from setmatch.cli import main
from setmatch.data.loader import AugmentationStats, _TrainingSamples
from setmatch.data.sampler import Place
from setmatch.data.transforms import Augmentation
from setmatch.structures.batch import Target

OFTEN = 60  # epochs
sample = _TrainingSamples._sample


def always(usual: Augmentation) -> Augmentation:
    """Return the steps of "small" without the choice to leave a picture as it is."""
    mirror, choice = usual.pipeline.transforms
    assert isinstance(choice, v2.RandomChoice), 'data.augment is "small"'
    changed, _ = choice.transforms
    return replace(usual, pipeline=v2.Compose([mirror, changed]))


def seen_often(
    self: _TrainingSamples, place: Place, problems: list[str]
) -> tuple[torch.Tensor, Target, int, AugmentationStats] | None:
    """Return a sample, always changed from the epoch OFTEN on."""
    usual = self._transform
    assert isinstance(usual, Augmentation), "every transform for training is one"
    self._transform = always(usual) if place[0] >= OFTEN else usual
    try:
        return sample(self, place, problems)
    finally:
        self._transform = usual


if __name__ == "__main__":
    _TrainingSamples._sample = seen_often  # type: ignore[method-assign]
    sys.exit(main())
