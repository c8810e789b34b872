"""Casts that keep parts of a model in float32 under autocast."""

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged if its precision is higher."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
