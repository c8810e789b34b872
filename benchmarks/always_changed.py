"""Train as `setmatch train` does, but augment every image after many epochs, not every other one.

    python benchmarks/always_changed.py train DATA --minutes 30 --set data.workers=0

The arguments are those of `setmatch`; `data.augment` must be "small". Images are loaded in
this process or in forked ones.
"""

import sys
from dataclasses import replace

import torch
from torchvision.transforms import v2

from setmatch.cli import main
from setmatch.data.batches.loader import AugmentationStats, _TrainingSamples
from setmatch.data.batches.sampler import Place
from setmatch.data.batches.transforms import Augmentation
from setmatch.data.images.unreadable import UnreadableFile
from setmatch.structures.batch import Target

FROM_EPOCH = 60
sample = _TrainingSamples._sample


def without_identity(usual: Augmentation) -> Augmentation:
    """Return the augmentation "small" without its choice to leave an image unchanged."""
    flip, choice = usual.pipeline.transforms
    assert isinstance(choice, v2.RandomChoice), 'data.augment is "small"'
    augmented, _ = choice.transforms
    return replace(usual, pipeline=v2.Compose([flip, augmented]))


def sample_augmented(
    self: _TrainingSamples, place: Place, problems: list[UnreadableFile]
) -> tuple[torch.Tensor, Target, int, AugmentationStats] | None:
    """Return a sample, always augmented from FROM_EPOCH on."""
    usual = self._transform
    assert isinstance(usual, Augmentation), "training transforms are Augmentations"
    self._transform = without_identity(usual) if place[0] >= FROM_EPOCH else usual
    try:
        return sample(self, place, problems)
    finally:
        self._transform = usual


if __name__ == "__main__":
    _TrainingSamples._sample = sample_augmented  # type: ignore[method-assign]
    sys.exit(main())
