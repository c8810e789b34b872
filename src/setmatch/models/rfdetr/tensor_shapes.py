"""The sizes of an RF-DETR, read off its tensors."""

import math
from typing import Any

from setmatch.models.family import default_shape, nearest_shape
from setmatch.models.rfdetr.config import RFDETRMaskShape, RFDETRShape
from setmatch.models.rfdetr.presets import PRESETS
from setmatch.models.weights.layouts.hybrid_folder import rows
from setmatch.models.weights.layouts.key_map import State, count_parts

DEFAULTS: dict[str, RFDETRShape] = {name: default_shape(preset) for name, preset in PRESETS.items()}
HEAD_DIM = 64  # of every vision transformer called DINOv2


def arguments_of(ours: State) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors in our names show.

    Raises KeyError for a missing tensor.
    """
    arguments = common_arguments(ours) | {
        "grid": math.isqrt(ours["backbone.position"].shape[1] - 1),
        "projector_dim": rows(ours, "encoder.split.0") // 2,
        "projector_blocks": count_parts(ours, r"encoder\.blocks\.(\d+)\."),
    }
    if "mask_head.bias" in ours:
        arguments["mask_ffn_dim"] = rows(ours, "mask_head.widen")
    return arguments


def common_arguments(ours: State) -> dict[str, Any]:
    """Return the arguments that tensors of RF-DETR and LW-DETR show alike.

    Raises KeyError for a missing tensor.
    """
    groups = count_parts(ours, r"queries\.prepare\.(\d+)\.")
    places = ours["queries.places"]
    return {
        "num_queries": places.numel() // (4 * groups),
        "query_groups": groups,
        "backbone_dim": rows(ours, "backbone.embed"),
        "backbone_ffn_dim": rows(ours, "backbone.blocks.0.ffn.0"),
        "patch": ours["backbone.embed.weight"].shape[-1],
        "dim": ours["queries.content"].shape[-1],
        "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
        "ffn_dim": rows(ours, "decoder.layers.0.ffn.0"),
    }


def points_of(ours: State, cross_heads: int, levels: int = 1) -> int:
    """Return the sampling points of each head of the cross-attention on each level."""
    weights = rows(ours, "decoder.layers.0.cross_attention.attention")
    return weights // max(cross_heads * levels, 1)  # what has no head is refused when it is built


def published_state(ours: State, arguments: dict[str, Any]) -> State:
    """Return tensors in our names in the shapes of ours, without what the model does not use.

    The published codes have all queries in a row, and blocks after the last map that is used.
    """
    per_group = arguments["query_groups"], arguments["num_queries"], -1
    blocks = [f"backbone.blocks.{block}." for block in range(arguments["outputs"][-1])]
    kept = {
        key: value
        for key, value in ours.items()
        if not key.startswith("backbone.blocks.") or key.startswith(tuple(blocks))
    }
    queries = ("queries.content", "queries.places")
    return kept | {name: ours[name].reshape(per_group) for name in queries}


def nearest_preset(arguments: dict[str, Any]) -> str:
    """Return the preset, with a mask head or without, that differs in the fewest arguments."""
    masks = "mask_ffn_dim" in arguments
    alike = {n: each for n, each in DEFAULTS.items() if isinstance(each, RFDETRMaskShape) == masks}
    return nearest_shape(alike, arguments)
