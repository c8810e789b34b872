"""Weights at a quarter of their size: int8 entries and one scale per row."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
_STEPS = 127  # on either side of zero: symmetric int8


def compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with every matrix and kernel as int8, and their row scales as KEY.scale.

    Each entry changes by at most 1/254 of the largest absolute value in its row. One-dimensional
    tensors (norms, biases) and integers are unchanged.
    """
    packed: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.ndim < 2 or not value.is_floating_point():
            packed[key] = value
            continue
        largest = value.float().flatten(1).abs().amax(1)
        scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / _STEPS
        steps = value.float() / scale.view(-1, *[1] * (value.ndim - 1))
        packed[key] = steps.round().to(torch.int8)
        packed[key + SCALE] = scale
    return packed


def expand(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 tensors from those of `compact`, up to its rounding.

    Raises ValueError for a scale that has not one number for each row.
    """
    full: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(SCALE) and key.removesuffix(SCALE) in state:
            continue
        scale = state.get(key + SCALE)
        if scale is None:
            full[key] = value
        elif value.ndim < 2 or scale.shape != value.shape[:1]:
            raise ValueError(f"{key}{SCALE} does not fit the rows of {key}")
        else:
            full[key] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    return full
