"""Arguments of the torchvision baselines."""

from dataclasses import dataclass
from typing import Literal

from setmatch.models.config import MOST_QUERIES, argument

BatchNorm = Literal["frozen", "live"]


@dataclass(frozen=True)
class BaselineShape:
    """The largest number of detections per image."""

    num_detections: int = argument(100, most=MOST_QUERIES, shapes_weights=False)


@dataclass(frozen=True)
class PyramidShape(BaselineShape):
    """Arguments of the detectors on a feature pyramid; anchors double from level to level."""

    smallest_anchor_px: int = argument(32, most=4096)


@dataclass(frozen=True)
class FrozenPyramidShape(PyramidShape):
    """The backbone's norms are frozen, torchvision's choice with weights, or live, without."""

    batch_norm: BatchNorm = "frozen"
