"""Compress attention maps for a page: 8 bits a cell, pooled to a coarser grid where needed."""

import base64
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

PackedMaps = dict[str, Any]  # JSON that view/decode.js unpacks

_MAX_UNPACKED_BYTES = 16_000_000
_GRAYS = (255, 63, 31)  # steps from 0 to the peak of a map
_POOLING = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def pack_cross_attention(
    weights: Float[Tensor, "L H Q N"], grid: tuple[int, int], budget: int
) -> PackedMaps:
    """Pack the maps of all queries into at most `budget` characters, as finely as they fit."""
    maps = weights.flatten(0, 2)
    return _finest(((pool(maps, grid, f), coarse_grid(grid, f), f) for f in _POOLING), budget)


def pack_encoder_attention(
    encoder: Float[Tensor, "E N N"], grid: tuple[int, int], budget: int
) -> PackedMaps:
    """Pack the map of every cell into at most `budget` characters; pooled cells are averaged."""
    layers, cells = encoder.shape[:2]

    def pool_both(factor: int) -> Float[Tensor, "M n"]:
        """Pool the attended cells, then the attending ones."""
        attended = pool(encoder.flatten(0, 1), grid, factor)
        by_attended = attended.view(layers, cells, -1).transpose(1, 2).flatten(0, 1)
        summed = pool(by_attended, grid, factor)
        mean = summed * (summed.shape[1] / cells)
        return mean.view(layers, attended.shape[1], -1).transpose(1, 2).flatten(0, 1)

    return _finest(((pool_both(f), coarse_grid(grid, f), f) for f in _POOLING), budget)


def pack(values: Float[Tensor, "M N"], grays: int = 255) -> PackedMaps:
    """Quantize each row to integers from 0 to `grays`, which stands for the peak of the row."""
    peaks = values.amax(1, keepdim=True)
    steps = (values / peaks.clamp(min=1e-12) * grays).round().byte()
    return {"grays": grays, "data": encode(steps.numpy()), "peaks": encode(peaks.numpy())}


def encode(array: NDArray[Any]) -> str:
    """Return an array's little-endian bytes, compressed with zlib, in base64."""
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little_endian.tobytes())).decode()


def coarse_grid(grid: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return the rows and columns of a grid after pooling by `factor`."""
    return math.ceil(grid[0] / factor), math.ceil(grid[1] / factor)


def pool(maps: Float[Tensor, "M N"], grid: tuple[int, int], factor: int) -> Float[Tensor, "M n"]:
    """Return the maps on a coarser grid; the sum of a row stays about the same."""
    if factor == 1:
        return maps
    mean = F.adaptive_avg_pool2d(maps.view(-1, *grid), coarse_grid(grid, factor)).flatten(1)
    return mean * (maps.shape[1] / mean.shape[1])


def _finest(
    candidates: Iterator[tuple[Float[Tensor, "M _"], tuple[int, int], int]], budget: int
) -> PackedMaps:
    for maps, grid, factor in candidates:
        if maps.numel() > _MAX_UNPACKED_BYTES:
            continue
        for grays in _GRAYS:
            packed = pack(maps, grays)
            if len(packed["data"]) + len(packed["peaks"]) <= budget:
                return {**packed, "grid": grid, "pooling": factor}
    raise AssertionError(f"no map fits {budget} characters, however coarse")
