"""The sizes of a D-FINE, read off its tensors."""

import re
from typing import Any

from torch import Tensor

from setmatch.models.dfine.config import DFineShape
from setmatch.models.dfine.presets import PRESETS
from setmatch.models.family import default_shape, nearest_shape
from setmatch.models.weights.layouts.hybrid_folder import rows
from setmatch.models.weights.layouts.key_map import State, count_parts

DEFAULTS: dict[str, DFineShape] = {name: default_shape(preset) for name, preset in PRESETS.items()}
# Not part of the model: what the published codes compute, or keep twice.
COMPUTED = re.compile(
    r".*\.num_points_scale|decoder\.(anchors|valid_mask)|decoder\.decoder\.(up|reg_scale)"
)


def arguments_of(ours: State, points: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors in our names show.

    `points` are the sampling points of each level. Raises KeyError for a missing tensor.
    """
    arguments = {
        **sizes_of(ours),
        **decoder_arguments(ours, points),
        "dim": rows(ours, "queries.prepare.0"),
        "ffn_dim": rows(ours, "decoder.layers.0.ffn.0"),
    }
    if len(points) > 1:
        arguments["fusion_dim"] = rows(ours, "encoder.down.0.first.main.0")
        arguments["fusion_blocks"] = count_parts(ours, r"encoder\.down\.0\.first\.blocks\.(\d+)\.")
    return arguments


def sizes_of(ours: State) -> dict[str, Any]:
    """Return the arguments of the backbone and of the encoder before it fuses levels."""
    stages = range(count_parts(ours, r"backbone\.stages\.(\d+)\."))
    layers = [_layer(ours, stage) for stage in stages]
    blocks = [f"backbone.stages.{stage}.blocks" for stage in stages]
    arguments: dict[str, Any] = {
        "stem": tuple(rows(ours, f"backbone.stem.{part}.conv.0") for part in ("first", "last")),
        "stage_inner": tuple(len(weight) for weight, _ in layers),
        "stage_out": tuple(rows(ours, f"{block}.0.expand.conv.0") for block in blocks),
        "stage_blocks": tuple(
            count_parts(ours, rf"{re.escape(block)}\.(\d+)\.") for block in blocks
        ),
        "stage_layers": tuple(
            count_parts(ours, rf"{re.escape(block)}\.0\.layers\.(\d+)\.") for block in blocks
        ),
        "stage_kernels": tuple(weight.shape[-1] for weight, _ in layers),
        "stage_light": tuple(light for _, light in layers),
        "affine": "backbone.stem.first.affine.scale" in ours,
        "encoder_dim": rows(ours, "encoder.project.0.0"),
        "encoder_layers": count_parts(ours, r"encoder\.layers\.(\d+)\."),
    }
    if arguments["encoder_layers"]:
        arguments["encoder_ffn_dim"] = rows(ours, "encoder.layers.0.ffn.0")
    return arguments


def decoder_arguments(ours: State, points: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments of the decoder, except the width of its parts."""
    first_quality = ours["decoder.quality.0.perceptron.layers.0.weight"]
    arguments: dict[str, Any] = {
        "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
        "points": points,
        "heads": rows(ours, "decoder.layers.0.cross_attention.attention") // sum(points),
        "bins": rows(ours, "decoder.edge_heads.0.layers.2") // 4,
        "quality_layers": count_parts(ours, r"decoder\.quality\.0\.perceptron\.layers\.(\d+)\."),
        "reach": ours["decoder.reach"].item(),
        "per_side": ours["decoder.per_side"].item(),
        "quality_best": first_quality.shape[1] // 4 - 1,
    }
    if arguments["quality_layers"] > 1:
        arguments["quality_dim"] = len(first_quality)
    return arguments


def nearest_preset(arguments: dict[str, Any]) -> str:
    """Return the preset that differs in the fewest arguments."""
    return nearest_shape(DEFAULTS, arguments)


def _layer(ours: State, stage: int) -> tuple[Tensor, int]:
    """Return the kernels of a stage's first layer, and 1 if it is a light one, else 0."""
    layer = f"backbone.stages.{stage}.blocks.0.layers.0"
    light = f"{layer}.depthwise.conv.0.weight"
    if light in ours:
        return ours[light], 1
    return ours[f"{layer}.conv.0.weight"], 0
