"""Resize images bilinearly with antialiasing, to the very pixels that torchvision returns.

PyTorch resizes uint8 images in integers on processors with AVX2: columns first, then rows, with
weights of 16 bits, and rounding after each. Pillow has the same filter, but wider weights: some
of its pixels differ by a level of 255, which moved a score of a small model by 0.01.

Floating point is exact for sums of which every part is a whole number of 1 / 2**bits that it can
hold, in whatever order they are summed. So a few new lines at a time are a product of matrices,
which NumPy computes about twice as fast as sums of integers.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, UInt8

_MOST_WEIGHT = 1 << 15  # weights are smaller
_MOST_BITS = 22
_SINGLE_BITS = 16  # with more, sums exceed what float32 holds
_MIDDLE = 128  # subtracted from levels, their sums have one bit less
_BAND = 8  # new lines of a product, where as many lines as these are read for them
_PRODUCT = 1 << 18  # multiplications that NumPy's library leaves to one thread


class _Band(NamedTuple):
    """The new lines `write` are sums of the lines `read` by `weights`."""

    read: slice
    write: slice
    weights: Float[np.ndarray, "n m"]


class _Filter(NamedTuple):
    """How all new lines are made; `added` rounds sums to the nearest level.

    `middle` is subtracted from all levels before, and added again after.
    """

    bands: tuple[_Band, ...]
    middle: int
    added: Float[np.ndarray, " n"]


def resize(
    image: UInt8[np.ndarray, "H W 3"], size_px: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image resized to `size_px` (height, width)."""
    height, width = size_px
    if image.shape[1] != width:
        image = _resized_columns(image, width)
    if image.shape[0] != height:
        image = _resized_rows(image, height)
    return image


def _resized_columns(image: UInt8[np.ndarray, "H W 3"], count: int) -> UInt8[np.ndarray, "H w 3"]:
    """Return `count` columns in place of those of the image."""
    height, width, channels = image.shape
    bands, middle, added = _filter(width, count, channels)
    rows = image.reshape(height, -1)
    resized = np.empty((height, count * channels), np.uint8)
    for part in _parts(height, bands):
        lines = _lines(rows[part], middle, added.dtype)
        sums = np.empty((len(lines), count * channels), added.dtype)
        for read, write, weights in bands:
            np.matmul(lines[:, read], weights.T, out=sums[:, write])
        resized[part] = _levels(sums, added, middle)
    return resized.reshape(height, count, channels)


def _resized_rows(image: UInt8[np.ndarray, "H W 3"], count: int) -> UInt8[np.ndarray, "h W 3"]:
    """Return `count` rows in place of those of the image."""
    height, width, channels = image.shape
    bands, middle, added = _filter(height, count, 1)
    rows = image.reshape(height, -1)
    resized = np.empty((count, width * channels), np.uint8)
    for part in _parts(width * channels, bands):
        for read, write, weights in bands:
            sums = weights @ _lines(rows[read, part], middle, added.dtype)
            resized[write, part] = _levels(sums, added[write, None], middle)
    return resized.reshape(count, width, channels)


def _lines(
    levels: UInt8[np.ndarray, "n m"], middle: int, kind: np.dtype
) -> Float[np.ndarray, "n m"]:
    """Return levels less `middle` in floating point."""
    lines = levels.astype(kind)
    if middle:
        lines -= middle
    return lines


def _levels(
    sums: Float[np.ndarray, "n m"], added: Float[np.ndarray, "..."], middle: int
) -> Float[np.ndarray, "n m"]:
    """Return sums as levels, of which uint8 keeps the whole part; in place."""
    sums += added
    if middle:  # sums may be negative, and added at once it would take their last bit
        np.floor(sums, out=sums)
        sums += middle
    return sums


def _parts(count: int, bands: tuple[_Band, ...]) -> Iterator[slice]:
    """Divide lines of `count` numbers, so that no product of a band is too large."""
    step = max(_PRODUCT // max(band.weights.size for band in bands), 1)
    return (slice(start, start + step) for start in range(0, count, step))


@lru_cache(maxsize=32)  # images of a folder have few sizes
def _filter(before: int, after: int, channels: int) -> _Filter:
    """Return the triangle filter that makes `after` lines of `before`, stretched to shrink.

    Lines of interleaved `channels` are made of those of their own.
    """
    scale = before / after
    weight, first = _weights(scale, before, after)
    most, bits = weight.max(), 0
    while bits < _MOST_BITS and int(0.5 + most * (1 << (bits + 1))) < _MOST_WEIGHT:
        bits += 1
    rounded = np.floor(0.5 + weight * (1 << bits)) / (1 << bits)
    middle = _MIDDLE if bits == _SINGLE_BITS + 1 else 0
    # Weights do not sum up to 1 exactly, so that the middle level that was subtracted is not all.
    # They are so near that no sum of levels reaches 255.5.
    added = middle * (rounded.sum(axis=1) - 1) + 0.5
    kind = np.float32 if bits <= _SINGLE_BITS or middle else np.float64
    bands, step = [], max(round(_BAND / scale), 1)
    taps = np.arange(rounded.shape[1])
    for start in range(0, after, step):
        stop = min(start + step, after)
        low, high = int(first[start]), min(int(first[stop - 1]) + len(taps), before)
        lines, places = np.arange(stop - start)[:, None], first[start:stop, None] - low + taps
        weights = np.zeros((len(lines), channels, places.max() + 1, channels), kind)
        for channel in range(channels):
            weights[lines, channel, places, channel] = rounded[start:stop]
        bands.append(
            _Band(
                slice(low * channels, high * channels),
                slice(start * channels, stop * channels),
                # What reaches beyond the last line has no weight.
                weights[:, :, : high - low].reshape(len(lines) * channels, -1),
            )
        )
    return _Filter(tuple(bands), middle, added.repeat(channels).astype(kind))


def _weights(
    scale: float, before: int, after: int
) -> tuple[Float64[np.ndarray, "n K"], Int64[np.ndarray, " n"]]:
    """Return the weights of each new line, and the first of the lines that they are for."""
    reach = max(scale, 1.0)
    center = scale * (np.arange(after) + 0.5)
    first = np.maximum((center - reach + 0.5).astype(np.int64), 0)
    end = np.minimum((center + reach + 0.5).astype(np.int64), before)
    place = np.arange((end - first).max()) + first[:, None]
    weight = np.maximum(1 - np.abs(place - center[:, None] + 0.5) / reach, 0) * (
        place < end[:, None]
    )
    return weight / weight.sum(axis=1, keepdims=True), first
