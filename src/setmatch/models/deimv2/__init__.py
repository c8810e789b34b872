"""DEIMv2 on HGNetV2 (arXiv 2509.20787): presets, and the layouts of published checkpoints."""

from functools import partial

from setmatch.models.deimv2 import checkpoint, presets, transformers_checkpoint
from setmatch.models.dfine.backbone_start import hgnetv2_start
from setmatch.models.family import Family

FAMILY = Family(
    presets.PRESETS,
    layouts=(checkpoint.LAYOUT, transformers_checkpoint.LAYOUT),
    published={name: partial(checkpoint.read_published, name) for name in checkpoint.PUBLISHED},
    starts={name: hgnetv2_start("B0", is_part=name == "deimv2_atto") for name in presets.PRESETS},
)
