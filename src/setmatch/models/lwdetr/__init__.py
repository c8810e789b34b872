"""LW-DETR (arXiv 2406.03459): presets, and the layouts of published checkpoints."""

from functools import partial

from setmatch.models.family import Family
from setmatch.models.lwdetr import backbone_start, checkpoint, presets, transformers_checkpoint

FAMILY = Family(
    presets.PRESETS,
    layouts=(checkpoint.LAYOUT, transformers_checkpoint.LAYOUT),
    published={name: partial(checkpoint.read_published, name) for name in checkpoint.PUBLISHED},
    starts=backbone_start.STARTS,
)
