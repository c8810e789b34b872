"""Mask logits at the pixels of the original image: nothing is computed that is not asked for.

The published code enlarges masks (bilinear) to the size that the model saw, and takes from there
the pixels nearest to those of the original. Both steps go along rows and columns independently, so
that the value of a pixel is known from two cells of each axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from PIL import Image
from torch import Tensor

_BLOCK_PX = 10_000  # pixels of every mask at once: what a processor's cache can hold

Nearest = Literal["pillow", "torch"]  # they differ in what lies nearest


@dataclass(frozen=True)
class _Axis:
    """For every pixel of the original: the two cells that it lies between, and their weights."""

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


def enlarged(
    masks: Float[Tensor, "K h w"],
    seen_px: tuple[int, int],
    size_px: tuple[int, int],
    nearest: Nearest,
) -> Iterator[tuple[slice, Float32[Tensor, "K _ W"]]]:
    """Yield blocks of rows of the original, and the logits of all masks there.

    `masks` cover the image as the model saw it, of (height, width) `seen_px`; `size_px` is the
    original's. On processors that round once when they multiply and add, as all that run PyTorch's
    vector code do, the logits are those of `F.interpolate`, bit for bit.
    """
    rows, columns = (
        _axis(cells, seen, wanted, nearest, masks.device)
        for cells, seen, wanted in zip(masks.shape[1:], seen_px, size_px, strict=True)
    )
    wide = _between(masks.float(), columns, dim=2)
    step = max(_BLOCK_PX // size_px[1], 1)
    for first in range(0, size_px[0], step):
        block = rows.part(first, first + step)
        yield slice(first, first + step), _between(wide, block, dim=1)


def _axis(cells: int, seen: int, wanted: int, nearest: Nearest, device: torch.device) -> _Axis:
    taken = _taken_by_pillow(seen, wanted) if nearest == "pillow" else _taken_by_torch(seen, wanted)
    scale = (torch.tensor(float(cells)) / seen).double()
    # In float32 with one rounding, as PyTorch computes it.
    place = (scale * (taken + 0.5) - 0.5).float().clamp(min=0)
    low = place.long()
    high = (low + 1).clamp(max=cells - 1)
    weight = place - low
    parts = (low, high, 1 - weight, weight)
    return _Axis(*(part.to(device) for part in parts))


def _taken_by_pillow(side: int, wanted: int) -> Int64[Tensor, " N"]:
    """Ask Pillow itself which pixels of a side it takes: it adds up steps with their rounding."""
    numbered = Image.fromarray(np.arange(side, dtype=np.int32)[None])
    taken = numbered.resize((wanted, 1), Image.Resampling.NEAREST)
    return torch.from_numpy(np.asarray(taken)[0].astype(np.int64))


def _taken_by_torch(side: int, wanted: int) -> Int64[Tensor, " N"]:
    numbered = torch.arange(side, dtype=torch.float64)[None, None]
    taken = torch.nn.functional.interpolate(numbered, size=wanted, mode="nearest")
    return taken[0, 0].long()


def _between(
    masks: Float32[Tensor, "K a b"], axis: _Axis, dim: Literal[1, 2]
) -> Float32[Tensor, "K c d"]:
    if dim == 1:
        low, high = (masks.index_select(1, cells) for cells in (axis.low, axis.high))
        low_weight, high_weight = axis.low_weight[:, None], axis.high_weight[:, None]
    else:
        # Within rows, gather takes a third of index_select's time.
        shape = (*masks.shape[:2], -1)
        low, high = (masks.gather(2, cells.expand(shape)) for cells in (axis.low, axis.high))
        low_weight, high_weight = axis.low_weight, axis.high_weight
    return high.mul_(high_weight).addcmul_(low, low_weight)
