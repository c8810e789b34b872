"""Resizing of mask logits to the original image, without the intermediate full-size masks.

The published code resizes masks bilinearly to the model's input size, and from there to the
original size by nearest neighbor. Both steps are separable, so each output pixel follows from two
cells per axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor

_BLOCK_PX = 10_000  # pixels of every mask at a time; fits into a CPU's cache

Nearest = Literal["pillow", "torch"]  # whose nearest neighbor; they differ in rounding


@dataclass(frozen=True)
class _Axis:
    """The two cells that each output pixel of an axis interpolates, and their weights."""

    low: Int64[Tensor, " N"]
    high: Int64[Tensor, " N"]
    low_weight: Float32[Tensor, " N"]
    high_weight: Float32[Tensor, " N"]

    def part(self, first: int, last: int) -> "_Axis":
        return _Axis(
            self.low[first:last],
            self.high[first:last],
            self.low_weight[first:last],
            self.high_weight[first:last],
        )


def resize_masks(
    masks: Float[Tensor, "K h w"],
    seen_px: tuple[int, int],
    size_px: tuple[int, int],
    nearest: Nearest,
) -> Iterator[tuple[slice, Float32[Tensor, "K _ W"]]]:
    """Yield blocks of rows of the original image, with the logits of all masks in them.

    `seen_px` is the (height, width) of the model's input, `size_px` that of the original image. On
    CPUs with fused multiply-add the logits are bit-equal to those of `F.interpolate`.
    """
    rows, columns = (
        _axis(cells, seen, size, nearest, masks.device)
        for cells, seen, size in zip(masks.shape[1:], seen_px, size_px, strict=True)
    )
    wide = _interpolate(masks.float(), columns, dim=2)
    step = max(_BLOCK_PX // size_px[1], 1)
    for first in range(0, size_px[0], step):
        block = rows.part(first, first + step)
        yield slice(first, first + step), _interpolate(wide, block, dim=1)


def _axis(cells: int, seen: int, size: int, nearest: Nearest, device: torch.device) -> _Axis:
    source = (
        _nearest_by_pillow(seen, size) if nearest == "pillow" else _nearest_by_torch(seen, size)
    )
    scale = (torch.tensor(float(cells)) / seen).double()
    # Rounded to float32 once, as PyTorch does.
    place = (scale * (source + 0.5) - 0.5).float().clamp(min=0)
    low = place.long()
    high = (low + 1).clamp(max=cells - 1)
    weight = place - low
    parts = (low, high, 1 - weight, weight)
    return _Axis(*(part.to(device) for part in parts))


def _nearest_by_pillow(side: int, size: int) -> Int64[Tensor, " N"]:
    """Return Pillow's choice, from Pillow itself: it accumulates steps with their rounding."""
    numbered = Image.fromarray(np.arange(side, dtype=np.int32)[None])
    source = numbered.resize((size, 1), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(source)[0].astype(np.int64))


def _nearest_by_torch(side: int, size: int) -> Int64[Tensor, " N"]:
    numbered = torch.arange(side, dtype=torch.float64)[None, None]
    source = torch.nn.functional.interpolate(numbered, size=size, mode="nearest")
    return source[0, 0].long()


def _interpolate(
    masks: Float32[Tensor, "K a b"], axis: _Axis, dim: Literal[1, 2]
) -> Float32[Tensor, "K c d"]:
    if dim == 1:
        low, high = (masks.index_select(1, cells) for cells in (axis.low, axis.high))
        low_weight, high_weight = axis.low_weight[:, None], axis.high_weight[:, None]
    else:
        # Within rows, gather is three times as fast as index_select.
        shape = (*masks.shape[:2], -1)
        low, high = (masks.gather(2, cells.expand(shape)) for cells in (axis.low, axis.high))
        low_weight, high_weight = axis.low_weight, axis.high_weight
    return high.mul_(high_weight).addcmul_(low, low_weight)
