"""Random small configs of LW-DETR and RF-DETR in transformers."""

from random import Random
from typing import Any

from transformers import LwDetrConfig, RfDetrConfig

from .drawn import DrawnConfig, Settings

STRANGE: Settings = {
    "activation_function": ["relu", "gelu"],
    "decoder_activation_function": ["gelu", "silu"],
    "attention_bias": [False],
    "dropout": [0.1],
    "attention_dropout": [0.1],
    "activation_dropout": [0.1],
    "auxiliary_loss": [False],
    "c2f_num_blocks": [0],
}
OF_LWDETR: Settings = {
    "hidden_act": ["relu"],
    "layer_norm_eps": [1e-5],
    "qkv_bias": [False],
    "use_absolute_position_embeddings": [False],
    "cae_init_values": [1.0],
    "dropout_prob": [0.1],
    "pretrain_image_size": [30],
    "image_size": [128],
}
OF_RFDETR: Settings = {
    "hidden_act": ["relu"],
    "layer_norm_eps": [1e-5],
    "qkv_bias": [False],
    "use_swiglu_ffn": [True],
    "apply_layernorm": [False],
    "layerscale_value": [0.5],
    "hidden_dropout_prob": [0.1],
    "drop_path_rate": [0.1],
    "window_block_indexes": [[], [0], [0, 1]],
    "image_size": [50],
}


def _blocks(draw: Random) -> tuple[int, list[int]]:
    """Return the number of blocks, and the numbers of those whose maps are used."""
    blocks = draw.randrange(1, 6)
    used = draw.sample(range(1, blocks + 1), draw.randrange(1, min(blocks, 4) + 1))
    return blocks, sorted(used)


def _model(draw: Random) -> dict[str, Any]:
    heads, cross_heads = draw.choice([1, 2, 4]), draw.choice([1, 2, 4, 8])
    return {
        "d_model": 8 * max(heads, cross_heads) // 2 * draw.choice([1, 2, 3]) or 8,
        "decoder_layers": draw.randrange(1, 5),
        "decoder_self_attention_heads": heads,
        "decoder_cross_attention_heads": cross_heads,
        "decoder_ffn_dim": draw.randrange(5, 40),
        "decoder_n_points": draw.randrange(1, 5),
        "num_queries": draw.choice([1, 5, 9]),
        "group_detr": draw.choice([1, 2, 3, 5]),
        "num_labels": draw.choice([1, 2, 7, 80, 91]),
        "hidden_expansion": draw.choice([0.25, 0.5, 0.77, 1.0]),
        "c2f_num_blocks": draw.choice([1, 2, 3]),
        "dropout": 0.0,
    }


def _backbone(draw: Random, kind: str) -> dict[str, Any]:
    heads = draw.choice([1, 2, 3])
    blocks, used = _blocks(draw)
    return {
        "model_type": kind,
        "hidden_size": heads * draw.choice([8, 12]),
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "mlp_ratio": draw.choice([1, 2, 4]),
        "patch_size": draw.choice([4, 8]),
        "out_indices": used,
    }


def draw_lwdetr(draw: Random) -> DrawnConfig:
    backbone = _backbone(draw, "lw_detr_vit")
    blocks = backbone["num_hidden_layers"]
    backbone |= {
        "image_size": 64,
        "pretrain_image_size": draw.choice([24, 32, 64]),
        "num_windows": draw.choice([1, 2, 4]) ** 2,
        "window_block_indices": sorted(draw.sample(range(blocks), draw.randrange(blocks + 1))),
    }
    scales = [[1.0], [2.0], [0.5], [2.0, 0.5], [2.0, 1.0, 0.5], [0.5, 2.0], [1.0, 1.0]]
    model = _model(draw) | {"projector_scale_factors": draw.choice(scales)}
    return DrawnConfig(
        lambda inner, outer: LwDetrConfig(backbone_config=inner, **outer),
        (backbone, model),
        (OF_LWDETR, STRANGE | {"batch_norm_eps": [1e-3], "projector_scale_factors": [[4.0], []]}),
    )


def draw_rfdetr(draw: Random) -> DrawnConfig:
    backbone = _backbone(draw, "rf_detr_dinov2")
    backbone |= {
        "image_size": backbone["patch_size"] * draw.choice([6, 7, 9, 12]),
        "num_windows": draw.choice([1, 2, 4]),
        "use_mask_token": draw.random() < 0.5,
    }
    eps = draw.choice([1e-6, 1e-5])
    model = _model(draw) | {"layer_norm_eps": eps, "intermediate_size": draw.randrange(8, 50)}
    strange: Settings = {
        "num_feature_levels": [2],
        "mask_downsample_ratio": [2, 8],
        "segmentation_head_activation_function": ["relu"],
    }
    return DrawnConfig(
        lambda inner, outer: RfDetrConfig(backbone_config=inner, **outer),
        (backbone, model),
        (OF_RFDETR, STRANGE | strange),
    )
