"""The sizes of a DEIMv2, read off its tensors."""

from typing import Any

from setmatch.models.deimv2.config import DEIMv2Shape
from setmatch.models.deimv2.presets import PRESETS
from setmatch.models.dfine.tensor_shapes import decoder_arguments, sizes_of
from setmatch.models.family import default_shape, nearest_shape
from setmatch.models.weights.layouts.hybrid_folder import rows
from setmatch.models.weights.layouts.key_map import State, count_parts

DEFAULTS: dict[str, DEIMv2Shape] = {name: default_shape(preset) for name, preset in PRESETS.items()}


def arguments_of(ours: State, points: tuple[int, ...]) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors in our names show.

    `points` are the sampling points of each level. Raises KeyError for a missing tensor.
    """
    arguments = {
        **sizes_of(ours),
        **decoder_arguments(ours, points),
        "encoder": "lite" if "encoder.spread.conv.0.weight" in ours else "hybrid",
        "dim": rows(ours, "decoder.start.first"),
        "ffn_dim": 2 * rows(ours, "decoder.layers.0.ffn.gate"),
        "gate": "decoder.layers.0.gate.weights.weight" in ours,
        "prepares_tokens": "queries.prepare.0.weight" in ours,
        "shared_edge_head": count_parts(ours, r"decoder\.edge_heads\.(\d+)\.") == 1,
    }
    if "encoder.down.0.split.0.weight" in ours:
        arguments["fusion_dim"] = rows(ours, "encoder.down.0.first.main.0")
        arguments["fusion_blocks"] = count_parts(ours, r"encoder\.down\.0\.first\.blocks\.(\d+)\.")
    return arguments


def nearest_preset(arguments: dict[str, Any]) -> str:
    """Return the preset that differs in the fewest arguments."""
    return nearest_shape(DEFAULTS, arguments)
