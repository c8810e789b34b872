"""Positions learned on a square grid of patches, resampled to grids of other sizes.

As products of matrices: few runtimes have the cubic interpolation that antialiases, and none needs
to know in advance what size an image has.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

CubicWeights = Callable[[int, int, Tensor], Tensor]  # (old, new, like), see below


def resampled(
    positions: Float[Tensor, "1 N D"], grid: int, shape: tuple[int, int], weights: CubicWeights
) -> Float[Tensor, "1 h w D"]:
    """Return the positions of `grid` x `grid` patches for a grid of `shape` (height, width)."""
    height, width = shape
    rows = weights(grid, height, positions) @ positions.view(grid, -1)
    columns = weights(grid, width, positions)
    return (columns @ torch.unflatten(rows, 1, (grid, -1)))[None]


def antialiased_weights(old: int, new: int, like: Tensor) -> Float[Tensor, "new old"]:
    """Return the matrix that resamples `old` samples to `new` ones, with antialiasing.

    It holds what `F.interpolate` computes with mode "bicubic" and antialias: Keys' cubic kernel
    with a = -1/2, widened where samples become fewer.
    """
    step = old / like.new_full((), new)
    center = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * step
    place = torch.arange(old, device=like.device, dtype=like.dtype) + 0.5
    distance = ((place - center[:, None]) / step.clamp(min=1)).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weight = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weight / weight.sum(1, keepdim=True)


def interpolating_weights(old: int, new: int, like: Tensor) -> Float[Tensor, "new old"]:
    """Return the matrix that interpolates `new` samples between `old` ones, without antialiasing.

    It holds what `F.interpolate` computes with mode "bicubic": Keys' cubic kernel with a = -3/4
    around four samples, of which those beyond the border are the last ones once more.
    """
    step = old / like.new_full((), new)
    center = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * step - 0.5
    taps = center.floor()[:, None] + torch.arange(-1, 3, device=like.device, dtype=like.dtype)
    distance = (taps - center[:, None]).abs()
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = ((3.75 - 0.75 * distance) * distance - 6) * distance + 3
    weight = torch.where(distance < 1, near, far)
    sample = torch.arange(old, device=like.device, dtype=like.dtype)
    chosen = taps.clamp(0, old - 1)[..., None] == sample
    return (weight[..., None] * chosen).sum(1)
