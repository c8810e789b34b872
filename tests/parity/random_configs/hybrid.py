"""Random small configs of D-FINE, DEIMv2, RT-DETR and RT-DETRv2 in transformers."""

from random import Random
from typing import Any

from transformers import (
    Deimv2Config,
    DFineConfig,
    HGNetV2Config,
    RTDetrConfig,
    RTDetrResNetConfig,
    RTDetrV2Config,
)

from .drawn import DrawnConfig, Settings, listed

# What a config may set, beside what every model here is drawn with.
STRANGE: Settings = {
    "layer_norm_eps": [1e-6, 1e-3],
    "batch_norm_eps": [1e-3, 1e-6],
    "normalize_before": [True],
    "activation_function": ["relu", "gelu"],
    "encoder_activation_function": ["relu", "silu"],
    "decoder_activation_function": ["gelu", "silu"],
    "learn_initial_query": [True],
    "eval_size": [[96, 96], 640],
    "encode_proj_layers": [[0], [0, 1], []],
    "positional_encoding_temperature": [20, 1000],
    "with_box_refine": [False],
    "num_feature_levels": [1, 2, 4],
    "feat_strides": [[4, 8, 16], [16, 32, 64]],
    "dropout": [0.1],
    "attention_dropout": [0.2],
    "activation_dropout": [0.1],
    "tie_word_embeddings": [True, False],
    "auxiliary_loss": [False],
}
OF_DISTRIBUTIONS: Settings = {
    "decoder_method": ["discrete"],
    "eval_idx": [0, 1, -2],
    "layer_scale": [1.5, 2, 0.5],
    "max_num_bins": [6, 34],
}
OF_HGNETV2: Settings = {
    "hidden_act": ["gelu", "silu"],
    "stem_strides": [[2, 1, 1, 1, 1], [1, 1, 1, 2, 1]],
    "stage_downsample_strides": [[2, 1, 2, 2], [1, 2, 2, 2]],
    "stage_downsample": [[True] * 4, [False, True, True, False]],
}
OF_RESNET: Settings = {
    "hidden_act": ["gelu"],
    "downsample_in_first_stage": [True],
    "downsample_in_bottleneck": [True],
    "hidden_sizes": [[8, 8, 16, 16], [8, 16, 16, 16]],
}


def _widths(draw: Random, count: int) -> list[int]:
    return listed(count, lambda: 2 * draw.randrange(4, 14))


def _common(draw: Random, levels: int, channels: list[int]) -> dict[str, Any]:
    heads, encoder_heads = draw.choice([1, 2, 4]), draw.choice([1, 2, 4])
    encoder_dim = 4 * encoder_heads * draw.choice([2, 3, 5])
    dim = heads * draw.choice([8, 12, 16])
    if draw.random() < 0.5:
        dim, heads = encoder_dim, encoder_heads
    layers = draw.randrange(1, 6)
    return {
        "encoder_hidden_dim": encoder_dim,
        "encoder_in_channels": channels,
        "encoder_ffn_dim": draw.randrange(5, 40),
        "encoder_attention_heads": encoder_heads,
        "encoder_layers": draw.choice([0, 1, 1, 2, 3]),
        "d_model": dim,
        "decoder_in_channels": [encoder_dim] * levels,
        "decoder_ffn_dim": draw.randrange(5, 40),
        "decoder_layers": layers,
        "decoder_attention_heads": heads,
        "num_queries": draw.choice([1, 3, 8]),
        "num_labels": draw.choice([1, 2, 7, 80, 91]),
        "num_feature_levels": levels,
        "encode_proj_layers": [levels - 1],
        "feat_strides": [32 >> (levels - 1 - level) for level in range(levels)],
        "hidden_expansion": draw.choice([0.25, 0.3, 0.34, 0.5, 0.77, 1.0, 1.5]),
        "num_denoising": draw.choice([0, 10, 100]),
        "freeze_backbone_batch_norms": draw.choice([True, False]),
        # A single layer has nothing to tie its heads to.
        "tie_word_embeddings": layers > 1 and draw.random() < 0.5,
    }


def _hgnetv2(draw: Random, stages: int, levels: int) -> dict[str, Any]:
    out, stem = _widths(draw, stages), _widths(draw, 2)
    blocks = listed(stages, lambda: draw.choice([1, 1, 2, 3]))
    return {
        "stem_channels": [3, *stem],
        "embedding_size": stem[0],
        "stage_in_channels": [stem[1], *out[:-1]],
        "stage_mid_channels": _widths(draw, stages),
        "stage_out_channels": out,
        "hidden_sizes": out,
        "depths": blocks,
        "stage_num_blocks": blocks,
        "stage_downsample": [stage > 0 for stage in range(stages)],
        "stage_downsample_strides": [2] * stages,
        "stage_light_block": listed(stages, lambda: draw.random() < 0.5),
        "stage_kernel_size": listed(stages, lambda: draw.choice([1, 3, 5, 7])),
        "stage_numb_of_layers": listed(stages, lambda: draw.randrange(1, 4)),
        "use_learnable_affine_block": draw.random() < 0.5,
        "out_indices": list(range(stages - levels + 1, stages + 1)),
    }


def _distributions(draw: Random, levels: int) -> dict[str, Any]:
    points = draw.choice([draw.randrange(1, 6), listed(levels, lambda: draw.randrange(1, 7))])
    return {
        "decoder_n_points": points,
        "depth_mult": draw.choice([0.34, 0.5, 0.67, 1.0, 1.34]),
        "max_num_bins": draw.choice([8, 16, 32]),
        "reg_scale": draw.choice([4.0, 8.0, 3.0]),
        "up": draw.choice([0.5, 0.3]),
        "top_prob_values": draw.choice([1, 3, 4]),
        "lqe_hidden_dim": draw.choice([8, 12, 64]),
        "lqe_layers": draw.choice([1, 2, 3]),
        "decoder_offset_scale": draw.choice([0.5, 0.3]),
    }


def _levels(draw: Random, stages: int) -> int:
    return draw.randrange(1, min(stages, 4) + 1)


def draw_dfine(draw: Random) -> DrawnConfig:
    stages = draw.choice([2, 3, 3, 4, 4])
    levels = _levels(draw, stages)
    backbone = _hgnetv2(draw, stages, levels)
    channels = backbone["stage_out_channels"][-levels:]
    model = _common(draw, levels, channels) | _distributions(draw, levels)
    return DrawnConfig(
        lambda inner, outer: DFineConfig(backbone_config=HGNetV2Config(**inner), **outer),
        (backbone, model),
        (OF_HGNETV2, STRANGE | OF_DISTRIBUTIONS),
    )


def draw_deimv2(draw: Random) -> DrawnConfig:
    lite, stages = draw.random() < 0.5, draw.choice([2, 3, 3, 4, 4])
    maps = 1 if lite else _levels(draw, stages)
    levels = 2 if lite else maps
    backbone = _hgnetv2(draw, stages, maps)
    channels = backbone["stage_out_channels"][-maps:]
    model = _common(draw, maps, channels) | _distributions(draw, levels)
    model |= {
        "use_gateway": draw.random() < 0.5,
        "share_bbox_head": model["decoder_layers"] > 1 and draw.random() < 0.5,
        "decoder_activation_function": draw.choice(["relu", "silu", "gelu"]),
    }
    if lite:
        dims = [model["encoder_hidden_dim"]] * 2
        model |= {"encoder_type": "lite", "num_feature_levels": 2, "decoder_in_channels": dims}
        model["feat_strides"] = [16]
    more: Settings = {"encoder_fuse_op": ["cat"], "encoder_has_trailing_conv": [False]}
    return DrawnConfig(
        lambda inner, outer: Deimv2Config(backbone_config=HGNetV2Config(**inner), **outer),
        (backbone, model),
        (OF_HGNETV2, STRANGE | OF_DISTRIBUTIONS | more),
    )


def _draw_rtdetr(draw: Random, config: type) -> DrawnConfig:
    stages = draw.choice([2, 3, 4, 4])
    widths = [4 * width for width in draw.sample(range(2, 12), stages)]
    levels = _levels(draw, stages)
    all_levels = levels + draw.choice([0, 0, 0, 1])
    kind = draw.choice(["basic", "bottleneck"])
    stem = widths[0] if kind == "basic" else 2 * draw.randrange(2, 9)  # transformers adds them
    backbone = {
        "embedding_size": stem,
        "hidden_sizes": widths,
        "depths": listed(stages, lambda: draw.choice([1, 2, 3])),
        "layer_type": kind,
        "out_indices": list(range(stages - levels + 1, stages + 1)),
    }
    model = _common(draw, levels, widths[-levels:])
    model |= {"num_feature_levels": all_levels, "decoder_n_points": draw.randrange(1, 6)}
    strange = dict(STRANGE)
    if config is RTDetrV2Config:
        model |= {
            "decoder_n_levels": all_levels,
            "decoder_offset_scale": draw.choice([0.5, 0.3]),
            "decoder_method": draw.choice(["default", "discrete"]),
        }
        strange["decoder_n_levels"] = [1, 2, 4]
    return DrawnConfig(
        lambda inner, outer: config(backbone_config=RTDetrResNetConfig(**inner), **outer),
        (backbone, model),
        (OF_RESNET, strange),
    )


def draw_rtdetr(draw: Random) -> DrawnConfig:
    return _draw_rtdetr(draw, RTDetrConfig)


def draw_rtdetr_v2(draw: Random) -> DrawnConfig:
    return _draw_rtdetr(draw, RTDetrV2Config)
