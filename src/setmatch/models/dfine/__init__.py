"""D-FINE (arXiv 2410.13842) and DEIM-D-FINE: presets, and the layouts of published checkpoints."""

from setmatch.models.dfine import checkpoint, presets, transformers_checkpoint
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=(transformers_checkpoint.LAYOUT, checkpoint.LAYOUT),
)
