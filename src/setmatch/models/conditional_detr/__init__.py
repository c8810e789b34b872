"""Conditional DETR (arXiv 2108.06152): presets, and the layouts of its published checkpoints."""

from functools import partial

from setmatch.models.conditional_detr import checkpoint, presets
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=checkpoint.LAYOUTS,
    published={
        name: partial(checkpoint.read_published, checkpoint.CONDITIONAL, name)
        for name in checkpoint.PUBLISHED
    },
)
