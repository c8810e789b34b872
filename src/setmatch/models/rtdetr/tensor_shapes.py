"""The sizes of an RT-DETR, read off its tensors."""

import re
from collections.abc import Mapping
from typing import Any

from setmatch.models.family import default_shape, nearest_shape
from setmatch.models.rtdetr.config import RTDetrShape, RTDetrV2Shape
from setmatch.models.rtdetr.presets import PRESETS
from setmatch.models.weights.layouts.hybrid_folder import HEADS, rows
from setmatch.models.weights.layouts.key_map import State, count_parts

DEFAULTS: dict[str, RTDetrShape] = {name: default_shape(preset) for name, preset in PRESETS.items()}
# Not part of the model: what the published codes compute.
COMPUTED = re.compile(r".*\.n(?:um)?_points_scale|decoder\.(anchors|valid_mask)|.*\.pos_embed\d+")
ATTENTION = "decoder.layers.0.cross_attention.attention"


def arguments_of(
    ours: State, points: tuple[int, ...] | None, heads: int | None = None
) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors in our names show.

    `points` are the sampling points of each level, as RT-DETRv2 stores them; None for RT-DETR,
    which has as many on every level, by its number of `heads`: the published number if that is
    None, or the largest below it that fits. Raises KeyError for a missing tensor.
    """
    stages = range(count_parts(ours, r"backbone\.stages\.(\d+)\."))
    levels = count_parts(ours, r"encoder\.to_memory\.(\d+)\.")
    extra = levels - count_parts(ours, r"encoder\.project\.(\d+)\.")
    bottleneck = "backbone.stages.0.0.layers.2.0.weight" in ours
    last = 2 if bottleneck else 1
    sampled = rows(ours, ATTENTION)
    if points is None:
        each, dim = sampled // levels, rows(ours, "queries.prepare.0")
        possible = [n for n in range(1, HEADS + 1) if each % n == 0 and dim % n == 0]
        points = (each // (heads or possible[-1]),) * levels
    arguments: dict[str, Any] = {
        "stem": rows(ours, "backbone.stem.2.0"),
        "stage_out": tuple(rows(ours, f"backbone.stages.{i}.0.layers.{last}.0") for i in stages),
        "stage_blocks": tuple(
            count_parts(ours, rf"backbone\.stages\.{stage}\.(\d+)\.") for stage in stages
        ),
        "bottleneck": bottleneck,
        "encoder_dim": rows(ours, "encoder.project.0.0"),
        "encoder_layers": count_parts(ours, r"encoder\.layers\.(\d+)\."),
        "extra_levels": extra,
        "dim": rows(ours, "queries.prepare.0"),
        "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
        "ffn_dim": rows(ours, "decoder.layers.0.ffn.0"),
        "points": points,
        "heads": sampled // max(sum(points), 1),
    }
    if arguments["encoder_layers"]:
        arguments["encoder_ffn_dim"] = rows(ours, "encoder.layers.0.ffn.0")
    if levels - extra > 1:
        arguments["fusion_dim"] = rows(ours, "encoder.down.0.csp.main.0")
        arguments["fusion_blocks"] = count_parts(ours, r"encoder\.down\.0\.csp\.blocks\.(\d+)\.")
    return arguments


def is_v2(arguments: Mapping[str, Any]) -> bool:
    """Return whether arguments are those of an RT-DETRv2."""
    return "offset_scale" in arguments


def nearest_preset(arguments: Mapping[str, Any], v2: bool) -> str:
    """Return the preset of RT-DETR or RT-DETRv2 that differs in the fewest arguments.

    Its backbone has the same kind of blocks.
    """
    alike = {
        name: shape
        for name, shape in DEFAULTS.items()
        if isinstance(shape, RTDetrV2Shape) == v2 and shape.bottleneck == arguments["bottleneck"]
    }
    return nearest_shape(alike, arguments)
