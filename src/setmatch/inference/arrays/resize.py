"""Resize images bilinearly with antialiasing, to the very pixels that torchvision returns.

PyTorch resizes uint8 images in integers on processors with AVX2: columns first, then rows, with
weights of 16 bits, and rounding after each. Pillow has the same filter, but wider weights: some
of its pixels differ by a level of 255, which moved a score of a small model by 0.01.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8

_MOST_WEIGHT = 1 << 15  # weights are smaller
_MOST_BITS = 22
_BLOCK = 1 << 14  # numbers that are summed at a time, which the cache of a core holds


class _Taps(NamedTuple):
    """The lines that each new line is the weighted sum of; weights are in 1 / 2**bits."""

    places: Int64[np.ndarray, "K n"]
    weights: Int32[np.ndarray, "K n"]
    bits: int


def resize(
    image: UInt8[np.ndarray, "H W 3"], size_px: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image resized to `size_px` (height, width)."""
    height, width = size_px
    if image.shape[1] != width:
        image = _resized_rows(image.transpose(1, 0, 2), width).transpose(1, 0, 2)
    if image.shape[0] != height:
        image = _resized_rows(image, height)
    return image


def _resized_rows(image: UInt8[np.ndarray, "H W 3"], count: int) -> UInt8[np.ndarray, "h W 3"]:
    """Return `count` rows in place of those of the image."""
    _, width, channels = image.shape
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    taps = _taps(len(rows), count)
    resized = np.empty((count, rows.shape[1]), np.uint8)
    step = max(_BLOCK // rows.shape[1], 1)
    for start in range(0, count, step):
        block = slice(start, start + step)
        total = np.full(resized[block].shape, 1 << (taps.bits - 1), np.int32)  # rounds to nearest
        for places, weights in zip(taps.places, taps.weights, strict=True):
            total += np.multiply(rows[places[block]], weights[block, None], dtype=np.int32)
        resized[block] = np.minimum(total >> taps.bits, 255)
    return resized.reshape(count, width, channels)


def _taps(before: int, after: int) -> _Taps:
    """Return the triangle filter that makes `after` lines of `before`, stretched to shrink."""
    scale = before / after
    reach = max(scale, 1.0)
    center = scale * (np.arange(after) + 0.5)
    first = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((center + reach + 0.5).astype(np.int64), before)
    place = np.arange((end - first).max())[:, None] + first
    weight = np.maximum(1 - np.abs(place - center + 0.5) / reach, 0) * (place < end)
    weight /= weight.sum(axis=0)
    most, bits = weight.max(), 0
    while bits < _MOST_BITS and int(0.5 + most * (1 << (bits + 1))) < _MOST_WEIGHT:
        bits += 1
    whole = (0.5 + weight * (1 << bits)).astype(np.int32)
    return _Taps(np.minimum(place, before - 1), whole, bits)
