"""A small model of every family, with random weights."""

from typing import Any

import torch

from known_models import (
    SMALL_DEFORMABLE,
    SMALL_DEIMV2,
    SMALL_DFINE,
    SMALL_LWDETR,
    SMALL_PLACED,
    SMALL_RFDETR,
    SMALL_RTDETR,
)
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SMALL = {
    "dim": 32,
    "heads": 4,
    "ffn_dim": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 12,
}
# By the family's name: a preset, and the arguments that make it small.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "DETR": ("detr_r18_tiny", {**SMALL, "dropout": 0.0}),
    "Conditional DETR": ("conditional_detr_r50", SMALL_PLACED),
    "DAB-DETR": ("dab_detr_r50", SMALL_PLACED),
    "Deformable DETR": ("deformable_detr_r50", SMALL_DEFORMABLE),
    "RT-DETR, RT-DETRv2": ("rtdetr_r18", SMALL_RTDETR),
    "D-FINE": ("dfine_s", SMALL_DFINE),
    "DEIMv2": ("deimv2_pico", SMALL_DEIMV2),
    "LW-DETR": ("lwdetr_s", SMALL_LWDETR),
    "RF-DETR": ("rfdetr_n", SMALL_RFDETR),
    "setmatch": ("setmatch_n", SMALL),
    "torchvision's baselines": ("ssdlite_mobilenet_v3", {}),
}


def small_model(family: str, categories: Categories, preprocessing: Preprocessing) -> Detector:
    """Return the small model of a family, in training mode."""
    torch.manual_seed(0)
    return build(ModelCard(*PRESETS[family], categories, preprocessing))
