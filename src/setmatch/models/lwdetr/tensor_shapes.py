"""The sizes of an LW-DETR, read off its tensors."""

import math
from typing import Any

from setmatch.models.family import default_shape, nearest_shape
from setmatch.models.lwdetr.config import LWDETRShape
from setmatch.models.lwdetr.presets import PRESETS
from setmatch.models.rfdetr.tensor_shapes import common_arguments, published_state
from setmatch.models.weights.layouts.hybrid_folder import rows
from setmatch.models.weights.layouts.key_map import State, count_parts, with_batch_counters

DEFAULTS: dict[str, LWDETRShape] = {name: default_shape(preset) for name, preset in PRESETS.items()}


def arguments_of(ours: State) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors in our names show.

    Raises KeyError for a missing tensor.
    """
    levels = count_parts(ours, r"encoder\.levels\.(\d+)\.")
    return common_arguments(ours) | {
        "grid": math.isqrt(ours["backbone.position"].shape[1] - 1),
        "projector_dim": rows(ours, "encoder.levels.0.split.0") // 2,
        "projector_blocks": count_parts(ours, r"encoder\.levels\.0\.blocks\.(\d+)\."),
        "scales": tuple(_scale(ours, level) for level in range(levels)),
    }


def _scale(ours: State, level: int) -> float:
    """Return the size of a level: a transposed convolution is the only layer with a bias."""
    resize = f"encoder.levels.{level}.resize.0"
    if f"{resize}.0.conv.0.weight" not in ours and f"{resize}.0.bias" not in ours:
        return 1.0
    enlarged = f"{resize}.0.bias" in ours or f"{resize}.1.bias" in ours
    return 2.0 if enlarged else 0.5


def fitting_state(ours: State, arguments: dict[str, Any]) -> State:
    """Return tensors in our names as the model has them.

    Files have a position for the class token of the backbone's own training, which is not used.
    """
    state = with_batch_counters(published_state(ours, arguments))
    return state | {"backbone.position": state["backbone.position"][:, 1:]}


def nearest_preset(arguments: dict[str, Any], blocks: int) -> str:
    """Return the preset that differs in the fewest arguments, of those with as many blocks."""
    alike = {name: each for name, each in DEFAULTS.items() if each.outputs[-1] == blocks}
    return nearest_shape(alike or DEFAULTS, arguments)
