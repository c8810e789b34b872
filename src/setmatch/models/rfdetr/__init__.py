"""RF-DETR (arXiv 2511.09554): presets, and the layouts of published checkpoints."""

from setmatch.models.family import Family
from setmatch.models.rfdetr import presets, transformers_checkpoint

FAMILY = Family(presets.PRESETS, layouts=(transformers_checkpoint.LAYOUT,))
