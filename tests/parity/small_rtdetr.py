"""RT-DETR and RT-DETRv2 of transformers, with layers cut down and weights of distinct scales."""

from typing import Any

import torch
from transformers import (
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

BACKBONE = {
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 2, 1, 2],
    "layer_type": "basic",
    "out_indices": [2, 3, 4],
}
MODEL = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [12, 16, 20],
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 40,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "num_queries": 20,
    "num_labels": 7,
    "hidden_expansion": 0.5,
}
BOTTLENECK = {"layer_type": "bottleneck", "hidden_sizes": [16, 24, 32, 40], "embedding_size": 6}
WIDE = {"encoder_in_channels": [24, 32, 40], "hidden_expansion": 1.0}
DEEPER = {"num_feature_levels": 4, "encoder_layers": 2, "decoder_n_points": 3}
TWO = {
    "encoder_in_channels": [16, 20],
    "decoder_in_channels": [32, 32],
    "feat_strides": [16, 32],
    "encode_proj_layers": [1],
    "num_feature_levels": 2,
    "decoder_n_points": 2,
    "decoder_attention_heads": 8,
}
FOUR = {
    "encoder_in_channels": [8, 12, 16, 20],
    "decoder_in_channels": [32] * 4,
    "feat_strides": [4, 8, 16, 32],
    "encode_proj_layers": [3],
    "num_feature_levels": 4,
    "encoder_layers": 0,
    "num_denoising": 0,
    "decoder_layers": 1,
}
# The version, and the settings of the backbone and of the rest.
CASES: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "r18": (1, {}, {}),
    "r50": (1, BOTTLENECK, WIDE),
    "r101": (
        1,
        BOTTLENECK | {"depths": [2, 1, 3, 1], "embedding_size": 16},
        WIDE | {"encoder_hidden_dim": 48, "decoder_in_channels": [48, 48, 48], "decoder_layers": 2},
    ),
    "further_level": (1, {}, DEEPER),
    "two_levels": (1, {"out_indices": [3, 4]}, TWO),
    "four_levels": (1, {"out_indices": [1, 2, 3, 4]}, FOUR),
    "no_positions": (1, {}, {"eval_size": 640, "freeze_backbone_batch_norms": False}),
    "v2_r18": (2, {}, {"tie_word_embeddings": False}),
    "v2_r50": (2, BOTTLENECK, WIDE | {"decoder_offset_scale": 0.7}),
    "v2_nearest": (2, {}, {"decoder_method": "discrete", "tie_word_embeddings": False}),
    "v2_further_level": (2, {}, DEEPER | {"decoder_n_levels": 4, "tie_word_embeddings": False}),
    "v2_one_layer": (
        2,
        {},
        {"decoder_layers": 1, "with_box_refine": False, "tie_word_embeddings": False},
    ),
}
Model = RTDetrForObjectDetection | RTDetrV2ForObjectDetection


def small_rtdetr(case: str = "r18", **changes: Any) -> Model:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    version, backbone, model = CASES[case]
    kinds = {
        1: (RTDetrConfig, RTDetrForObjectDetection),
        2: (RTDetrV2Config, RTDetrV2ForObjectDetection),
    }
    config_of, model_of = kinds[version]
    config = config_of(
        backbone_config=RTDetrResNetConfig(**BACKBONE | backbone), **MODEL | model | changes
    )
    reference = model_of(config).eval()
    give_distinct_scales(reference, fixed=("n_points_scale",))
    return reference


def every_layer(reference: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers."""
    with torch.no_grad():
        out = reference(pixel_values=pixels)
    return (
        out.intermediate_logits.transpose(0, 1),
        out.intermediate_reference_points.transpose(0, 1),
    )
