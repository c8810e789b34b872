"""RT-DETR (arXiv 2304.08069), RT-DETRv2 (2407.17140): presets, layouts of published checkpoints."""

from functools import partial

from setmatch.models.family import Family
from setmatch.models.rtdetr import backbone_start, checkpoint, presets, transformers_checkpoint

FAMILY = Family(
    presets.PRESETS,
    layouts=(transformers_checkpoint.LAYOUT, checkpoint.LAYOUT),
    published={
        name: partial(transformers_checkpoint.read_published, name)
        for name in transformers_checkpoint.PUBLISHED
    },
    starts=backbone_start.STARTS,
)
