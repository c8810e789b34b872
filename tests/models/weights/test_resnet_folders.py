"""Backbones of DETR and its descendants in config.json: torchvision's ResNets, and all others."""

from pathlib import Path
from typing import Any

import pytest

from setmatch.errors import WeightsError
from setmatch.models.weights.layouts.resnet_folder import is_dilated

FOLDER = Path("folder")
TIMM = {"model_type": "timm_backbone", "backbone": "resnet50", "num_channels": 3}
OWN = {"model_type": "resnet", "layer_type": "bottleneck", "hidden_act": "relu"}


@pytest.mark.parametrize(
    ("config", "dilated"),
    [
        ({}, False),
        ({"dilation": True}, True),
        ({"backbone": "resnet101", "backbone_config": None, "use_timm_backbone": True}, False),
        ({"backbone": "resnet50.a1_in1k", "dilation": True, "backbone_kwargs": {}}, True),
        ({"backbone_kwargs": {"out_indices": [1, 2, 3, 4], "output_stride": 16}}, True),
        ({"backbone_config": TIMM | {"output_stride": None}}, False),
        ({"backbone_config": TIMM | {"output_stride": 16}}, True),
        ({"backbone_config": TIMM, "dilation": True}, False),  # the backbone is described
        ({"backbone_config": OWN, "dilation": True}, False),
    ],
)
def test_the_last_stage_is_dilated_as_transformers_builds_it(config: dict[str, Any], dilated: bool):
    assert is_dilated(config, FOLDER) == dilated


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"backbone_config": OWN | {"hidden_act": "gelu"}}, r"hidden_act \('gelu'\)"),
        ({"backbone_config": OWN | {"downsample_in_bottleneck": True}}, "downsample_in_bottleneck"),
        ({"backbone_config": OWN | {"downsample_in_first_stage": True}}, "in_first_stage"),
        ({"backbone_config": OWN | {"num_channels": 1}}, "num_channels"),
        ({"backbone_config": {"model_type": "swin"}}, r"model_type \('swin'\)"),
        ({"backbone_config": {}}, "model_type"),
        ({"backbone_config": [1]}, r"\[1\]"),
        ({"backbone_config": "resnet50"}, "'resnet50'"),
        ({"backbone_config": TIMM | {"output_stride": 8}}, r"output_stride \(8\)"),
        ({"backbone_config": TIMM | {"backbone": "resnetblur50"}}, r"backbone \('resnetblur50'\)"),
        ({"backbone": "resnet50d"}, r"backbone \('resnet50d'\)"),
        ({"backbone": ["resnet50"]}, "backbone"),
        ({"dilation": True, "backbone_kwargs": {"output_stride": 32}}, "output_stride"),
        ({"backbone_kwargs": {"output_stride": [16]}}, "output_stride"),
    ],
)
def test_other_backbones_are_refused_in_one_line(config: dict[str, Any], problem: str):
    with pytest.raises(WeightsError, match=f"folder: config.json describes.*{problem}") as caught:
        is_dilated(config, FOLDER)
    assert "\n" not in str(caught.value)
