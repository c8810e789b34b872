"""The setmatch family: multi-scale, converges quickly from random weights."""

from setmatch.models.family import Family
from setmatch.models.setmatch import presets

FAMILY = Family(presets.PRESETS, presets.BOX_PRESETS)
