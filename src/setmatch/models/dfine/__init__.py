"""D-FINE (arXiv 2410.13842) and DEIM-D-FINE: presets, and the layouts of published checkpoints."""

from functools import partial

from setmatch.models.dfine import backbone_start, checkpoint, presets, transformers_checkpoint
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=(transformers_checkpoint.LAYOUT, checkpoint.LAYOUT),
    published={
        name: partial(transformers_checkpoint.read_published, name)
        for name in transformers_checkpoint.PUBLISHED
    },
    starts=backbone_start.STARTS,
)
