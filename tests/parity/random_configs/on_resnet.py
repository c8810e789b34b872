"""Random small configs of Conditional DETR, DAB-DETR and Deformable DETR in transformers."""

from random import Random
from typing import Any

from transformers import (
    ConditionalDetrConfig,
    DabDetrConfig,
    DeformableDetrConfig,
    ResNetConfig,
)

from .drawn import DrawnConfig, Settings

# Nothing but these changes what a backbone computes, with the same tensors.
OF_RESNET: Settings = {
    "hidden_act": ["gelu"],
    "downsample_in_first_stage": [True],
    "downsample_in_bottleneck": [True],
    "hidden_sizes": [[64, 128, 256, 384]],
    "depths": [[2, 1, 2, 2], [2, 2, 2, 3]],
    "embedding_size": [32],
}
OF_BOTTLENECKS = {
    "layer_type": "bottleneck",
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
}
STRANGE: Settings = {
    "activation_function": ["gelu"],
    "dropout": [0.1],
    "attention_dropout": [0.1],
    "activation_dropout": [0.1],
    "dilation": [True],
}


def _backbone(draw: Random, maps: int) -> dict[str, Any]:
    backbone = {
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
        "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"][-maps:],
    }
    return backbone | OF_BOTTLENECKS if draw.random() < 0.15 else backbone


def _model(draw: Random, width: str, dims: list[int]) -> dict[str, Any]:
    return {
        width: draw.choice(dims),
        "encoder_layers": draw.randrange(4),
        "decoder_layers": draw.randrange(1, 5),
        "encoder_ffn_dim": draw.randrange(5, 40),
        "decoder_ffn_dim": draw.randrange(5, 40),
        "encoder_attention_heads": draw.choice([1, 2, 4, 8]),
        "decoder_attention_heads": draw.choice([1, 2, 4, 8]),
        "num_queries": draw.choice([1, 5, 12]),
        "num_labels": draw.choice([1, 2, 7, 80, 91]),
        "dropout": 0.0,
    }


def draw_conditional(draw: Random) -> DrawnConfig:
    strange: Settings = {"position_embedding_type": ["learned"], "auxiliary_loss": [True]}
    return DrawnConfig(
        lambda inner, outer: ConditionalDetrConfig(backbone_config=ResNetConfig(**inner), **outer),
        (_backbone(draw, 1), _model(draw, "d_model", [16, 32, 48, 64])),
        (OF_RESNET, STRANGE | strange),
    )


def draw_dab(draw: Random) -> DrawnConfig:
    model = _model(draw, "hidden_size", [16, 32, 48, 64])
    model["num_patterns"] = draw.choice([0, 0, 1, 3])
    strange: Settings = {
        "activation_function": ["gelu", "relu"],
        "keep_query_pos": [True],
        "random_refpoints_xy": [True],
        "normalize_before": [True],
        "temperature_height": [10000, 30],
        "temperature_width": [10],
        "sine_position_embedding_scale": [6.28, 1.0],
        "tie_word_embeddings": [False],
    }
    return DrawnConfig(
        lambda inner, outer: DabDetrConfig(backbone_config=ResNetConfig(**inner), **outer),
        (_backbone(draw, 1), model),
        (OF_RESNET, STRANGE | strange),
    )


def draw_deformable(draw: Random) -> DrawnConfig:
    levels = draw.choice([1, 3, 3, 4])
    kind = draw.choice(["plain", "refine", "two_stage"])
    model = _model(draw, "d_model", [32, 64, 96]) | {
        "num_feature_levels": levels,
        "encoder_n_points": draw.randrange(1, 5),
        "decoder_n_points": draw.randrange(1, 5),
        "auxiliary_loss": True,
        "with_box_refine": kind != "plain",
        "two_stage": kind == "two_stage",
        "two_stage_num_proposals": draw.choice([1, 5, 12]),
    }
    # Without refinement all layers share their heads; a single layer has none to share them with.
    untied = draw.random() < 0.5 or model["decoder_layers"] == 1
    model["tie_word_embeddings"] = not untied if kind != "plain" else model["decoder_layers"] > 1
    strange: Settings = {
        "position_embedding_type": ["learned"],
        "with_box_refine": [True, False],
        "tie_word_embeddings": [True, False],
    }
    return DrawnConfig(
        lambda inner, outer: DeformableDetrConfig(backbone_config=ResNetConfig(**inner), **outer),
        (_backbone(draw, 1 if levels == 1 else 3), model),
        (OF_RESNET, STRANGE | strange),
    )
