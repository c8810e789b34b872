"""DAB-DETR (arXiv 2201.12329): presets, and the layouts of its published checkpoints."""

from functools import partial

from setmatch.models.conditional_detr.checkpoint import read_published
from setmatch.models.dab_detr import checkpoint, presets
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=checkpoint.LAYOUTS,
    published={
        name: partial(read_published, checkpoint.DAB, name) for name in checkpoint.PUBLISHED
    },
)
