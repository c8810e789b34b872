"""Precision: what stays exact where autocast makes the rest of a model coarser."""

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Return `x` in float32, or as it is where it is finer already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
