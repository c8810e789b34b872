"""LW-DETR in transformers' layout."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.lwdetr.checkpoint import SIDE_PX, with_card
from setmatch.models.lwdetr.key_map import HUB, HUB_POSITION, in_files
from setmatch.models.lwdetr.tensor_shapes import arguments_of
from setmatch.models.rfdetr.tensor_shapes import points_of
from setmatch.models.rfdetr.transformers_checkpoint import (
    BLOCKS,
    DROPOUTS,
    WINDOWED_SIZES,
    outputs_of,
    preprocessing_of,
)
from setmatch.models.weights.layouts.hub_folder import named_categories
from setmatch.models.weights.layouts.hybrid_folder import others
from setmatch.models.weights.layouts.key_map import count_parts, from_layout
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import StatedSize, require_stated_sizes

# What the model has one form of; a config with another value is of another model.
REQUIRED = {
    "activation_function": "silu",
    "decoder_activation_function": "relu",
    "attention_bias": True,
    "batch_norm_eps": 1e-5,
}
REQUIRED_OF_BACKBONE = {
    "model_type": "lw_detr_vit",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "use_absolute_position_embeddings": True,
    "num_channels": 3,
}

SIZES = (
    *WINDOWED_SIZES,
    StatedSize("projector_scale_factors", "scales", lambda said, _: tuple(map(float, said))),
    StatedSize(
        "backbone_config.pretrain_image_size", "grid", lambda said, sizes: said // sizes["patch"]
    ),
)


def matches(keys: Collection[str]) -> bool:
    """Recognize the positions of the backbone, and the places of queries."""
    return "model.reference_point_embed.weight" in keys and HUB_POSITION in keys


def read(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that LW-DETR as published
    does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != "lw_detr":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'lw_detr'")
    backbone = config.get("backbone_config") or {}
    outputs = outputs_of(backbone)
    problems = [
        *others(config, REQUIRED),
        *(f"backbone_config.{each}" for each in others(backbone, REQUIRED_OF_BACKBONE)),
        *([] if outputs and outputs[0] > 0 else ["backbone_config.out_features"]),
    ]
    if problems:
        raise WeightsError(
            f"{raw.path}: config.json has a value of {', '.join(problems)} that no published "
            "LW-DETR has; such a model is not read"
        )
    notes: list[str] = []
    dropouts = [name for name in DROPOUTS if config.get(name)]
    if backbone.get("dropout_prob"):
        dropouts.append("backbone_config.dropout_prob")
    if dropouts:
        notes.append(f"config.json sets {', '.join(dropouts)}: this LW-DETR is trained without")
    state = from_layout(in_files(raw.state), HUB)
    arguments = arguments_of(state) | _settings(config, backbone)
    arguments["outputs"] = outputs
    levels = len(arguments["scales"])
    arguments["points"] = points_of(state, arguments["cross_heads"], levels)
    sizes = {**arguments, "backbone_blocks": count_parts(state, BLOCKS)}
    require_stated_sizes(config, sizes, SIZES)
    num_classes = len(state["decoder.class_head.weight"])
    categories = named_categories(num_classes, config, raw.path, notes)
    preprocessing = preprocessing_of(raw.path, SIDE_PX, notes)
    return with_card(raw, state, arguments, categories, preprocessing, notes)


def _settings(config: Mapping[str, Any], backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that no tensor shows."""
    return {
        "heads": config.get("decoder_self_attention_heads", 8),
        "cross_heads": config.get("decoder_cross_attention_heads", 16),
        "backbone_heads": backbone.get("num_attention_heads", 12),
        "windows": math.isqrt(backbone.get("num_windows", 16)),
        "windowed": tuple(block + 1 for block in backbone.get("window_block_indices") or ()),
    }


LAYOUT = CheckpointLayout(
    "transformers",
    matches,
    read,
    family="LW-DETR",
    table=HUB,
)
