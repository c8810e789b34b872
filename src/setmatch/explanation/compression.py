"""Attention maps in few bytes: each to its own peak, pooled where a page would grow too big."""

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

Packed = dict[str, Any]  # what page.js unpacks

_LARGEST = 16_000_000  # bytes that a page unpacks to
_GRAYS = (255, 63, 31)  # steps between nothing and a map's peak
_FACTORS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


def pack_looks(weights: Float[Tensor, "L H Q N"], grid: tuple[int, int], budget: int) -> Packed:
    """Pack the maps of all queries into `budget` characters, as finely as they fit."""
    maps = weights.flatten(0, 2)
    return _finest(((pooled(maps, grid, f), coarser(grid, f), f) for f in _FACTORS), budget)


def pack_places(encoder: Float[Tensor, "E N N"], grid: tuple[int, int], budget: int) -> Packed:
    """Pack what every place looked at into `budget` characters; pooled places are averages."""
    layers, places = encoder.shape[:2]

    def both(factor: int) -> Float[Tensor, "M n"]:
        seen = pooled(encoder.flatten(0, 1), grid, factor)
        by_place = seen.view(layers, places, -1).transpose(1, 2).flatten(0, 1)
        fewer = pooled(by_place, grid, factor)
        mean = fewer * (fewer.shape[1] / places)
        return mean.view(layers, seen.shape[1], -1).transpose(1, 2).flatten(0, 1)

    return _finest(((both(f), coarser(grid, f), f) for f in _FACTORS), budget)


def pack(values: Float[Tensor, "M N"], grays: int = 255) -> Packed:
    """Keep each row as whole numbers from 0 to `grays`, its peak, beside the peaks themselves."""
    peaks = values.amax(1, keepdim=True)
    steps = (values / peaks.clamp(min=1e-12) * grays).round().byte()
    return {"grays": grays, "data": text(steps.numpy()), "peaks": text(peaks.numpy())}


def text(array: NDArray[Any]) -> str:
    """Return an array's bytes, little end first, compressed and spelled in base64."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes())).decode()


def coarser(grid: tuple[int, int], factor: int) -> tuple[int, int]:
    """Return rows and columns of a grid whose cells are `factor` times as long."""
    return math.ceil(grid[0] / factor), math.ceil(grid[1] / factor)


def pooled(maps: Float[Tensor, "M N"], grid: tuple[int, int], factor: int) -> Float[Tensor, "M n"]:
    """Return the maps on a coarser grid; what a row adds up to stays about the same."""
    if factor == 1:
        return maps
    small = F.adaptive_avg_pool2d(maps.view(-1, *grid), coarser(grid, factor)).flatten(1)
    return small * (maps.shape[1] / small.shape[1])


def _finest(
    candidates: Iterator[tuple[Float[Tensor, "M _"], tuple[int, int], int]], budget: int
) -> Packed:
    for maps, grid, factor in candidates:
        if maps.numel() > _LARGEST:
            continue
        for grays in _GRAYS:
            packed = pack(maps, grays)
            if len(packed["data"]) + len(packed["peaks"]) <= budget:
                return {**packed, "grid": grid, "pooled": factor}
    raise AssertionError(f"no map of {budget} characters, however coarse")
