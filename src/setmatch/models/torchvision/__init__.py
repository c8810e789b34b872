"""Baselines from torchvision: Faster R-CNN and SSDLite."""

from functools import partial

from setmatch.models.family import Family
from setmatch.models.torchvision import checkpoint, presets

FAMILY = Family(
    presets.PRESETS,
    published={name: partial(checkpoint.read_baseline, name) for name in checkpoint.WEIGHTS},
)
