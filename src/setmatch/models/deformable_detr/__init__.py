"""Deformable DETR (arXiv 2010.04159): presets, and the layouts of its published checkpoints."""

from functools import partial

from setmatch.models.deformable_detr import checkpoint, presets, transformers_checkpoint
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=(transformers_checkpoint.LAYOUT, checkpoint.LAYOUT),
    published={
        name: partial(transformers_checkpoint.read_published, name)
        for name in transformers_checkpoint.PUBLISHED
    },
)
