"""Weights in a quarter of their size: one byte for an entry of a matrix, one scale for a row."""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".scale"
_STEPS = 127  # on either side of zero: eight bits with a sign, used symmetrically


def compact(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with every matrix and kernel as int8, its rows' scales beside it as KEY.scale.

    Each entry moves by at most half a step, which is 1/254 of the largest in its row. What has one
    dimension only (norms, biases) or no fractions stays as it is.
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
    """Return the float32 tensors that `compact` was given, as nearly as their bytes tell."""
    full: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(SCALE) and key.removesuffix(SCALE) in state:
            continue
        scale = state.get(key + SCALE)
        if scale is None:
            full[key] = value
        else:
            full[key] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
    return full
