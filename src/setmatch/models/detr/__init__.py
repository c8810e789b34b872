"""DETR (arXiv 2005.12872): presets, and the layouts of its published checkpoints."""

from functools import partial

from setmatch.models.detr import checkpoint, presets, transformers_checkpoint
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    presets.BOX_PRESETS,
    layouts=(checkpoint.LAYOUT, transformers_checkpoint.LAYOUT),
    published={name: partial(checkpoint.read_published, name) for name in checkpoint.PUBLISHED},
)
