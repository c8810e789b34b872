"""Pictures that show nearly the same: found by a difference hash, confirmed by small grays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_HASH_SIDE = 8
_GRAY_SIDE = 16
_MOST_BITS = 6  # of 64 that may differ
_MOST_LEVELS = 6.0  # of 255 by which the small grays may differ on average
_BLOCK = 2**22  # pairs compared at once


@dataclass(frozen=True)
class ImageHash:
    """A picture's 64-bit difference hash, and the picture itself as 16 by 16 gray pixels."""

    bits: int
    gray: bytes


@dataclass(frozen=True)
class SimilarPair:
    """Two pictures, numbered as given, and how many of their 64 hash bits differ."""

    first: int
    second: int
    bits: int


def image_hashes(pixels: UInt8[Tensor, "3 H W"]) -> tuple[ImageHash, ImageHash]:
    """Return how an RGB picture looks as it is, and how it looks in a mirror.

    Its size and compression hardly matter. A bit of the hash says whether one of 8 by 8 places is
    brighter than its right neighbor (difference hash: N. Krawetz, "Kind of Like That", 2013).
    """
    gray = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).convert("L")
    # Reducing first, by whole factors, makes large photographs cheap.
    factor = max(min(gray.size) // (4 * _GRAY_SIDE), 1)
    gray = gray.reduce(factor)
    return _look(gray), _look(gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _look(gray: Image.Image) -> ImageHash:
    steps = np.asarray(gray.resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX), np.int16)
    bits = np.packbits(steps[:, :-1] > steps[:, 1:])
    small = gray.resize((_GRAY_SIDE, _GRAY_SIDE), Image.Resampling.BOX)
    return ImageHash(int.from_bytes(bits.tobytes(), "big"), small.tobytes())


def near_duplicates(first: Sequence[ImageHash], second: Sequence[ImageHash]) -> list[SimilarPair]:
    """Return the pairs, one picture of each list, that show nearly the same, most alike first.

    Compares all with all, in blocks: some hundred million pairs take seconds.
    """
    hashes = np.array([look.bits for look in first], dtype=np.uint64)
    others = np.array([look.bits for look in second], dtype=np.uint64)
    grays, other_grays = _grays(first), _grays(second)
    pairs = []
    for start, found in _close(hashes, others):
        rows, columns, bits = found
        levels = np.abs(grays[start + rows] - other_grays[columns]).mean(axis=1)
        keep = levels <= _MOST_LEVELS
        pairs += [
            SimilarPair(start + row, column, distance)
            for row, column, distance in zip(
                rows[keep].tolist(), columns[keep].tolist(), bits[keep].tolist(), strict=True
            )
        ]
    return sorted(pairs, key=lambda pair: (pair.bits, pair.first, pair.second))


_Found = tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]


def _close(
    first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"]
) -> Iterator[tuple[int, _Found]]:
    """Yield (start, (row, column, bits)) of pairs that few bits apart, by blocks of rows."""
    height = max(_BLOCK // max(len(second), 1), 1)
    for start in range(0, len(first), height):
        bits = _ones(first[start : start + height, None] ^ second[None])
        rows, columns = np.nonzero(bits <= _MOST_BITS)
        yield start, (rows, columns, bits[rows, columns].astype(np.int64))


def _ones(words: UInt64[np.ndarray, "N M"]) -> UInt8[np.ndarray, "N M"]:
    """Count the bits that are 1: in pairs, in fours, in bytes, then all (NumPy 1 cannot)."""
    pairs, fours, bytes_, all_ = (
        np.uint64(mask)
        for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
    )
    words = words - ((words >> np.uint64(1)) & pairs)
    words = (words & fours) + ((words >> np.uint64(2)) & fours)
    words = (words + (words >> np.uint64(4))) & bytes_
    return ((words * all_) >> np.uint64(56)).astype(np.uint8)


def _grays(looks: Sequence[ImageHash]) -> NDArray[np.int16]:
    gray = np.frombuffer(b"".join(look.gray for look in looks), dtype=np.uint8)
    return gray.reshape(len(looks), _GRAY_SIDE**2).astype(np.int16)
