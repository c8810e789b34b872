"""Near-duplicate images: found by a difference hash, confirmed on small grayscale copies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8, UInt64
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

_HASH_SIDE = 8
_GRAY_SIDE = 16
_MAX_BITS = 6  # of 64 that may differ
_MAX_GRAY_DIFFERENCE = 6.0  # mean absolute difference of the grayscale copies, of 255
_PAIRS_PER_BLOCK = 2**22


@dataclass(frozen=True)
class ImageHash:
    """64-bit difference hash of an image, and the image as 16 by 16 grayscale pixels."""

    bits: int
    gray: bytes


@dataclass(frozen=True)
class SimilarPair:
    """Two images, by their positions in two lists, and how many of 64 hash bits differ."""

    first: int
    second: int
    bits: int


def hash_image(pixels: UInt8[Tensor, "3 H W"]) -> tuple[ImageHash, ImageHash]:
    """Return the hashes of an RGB image and of its mirror image.

    Image size and compression hardly change a hash. Each bit tells whether one of 8 by 8 cells is
    brighter than its right neighbor (difference hash: N. Krawetz, "Kind of Like That", 2013).
    """
    gray = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).convert("L")
    # Large photographs are reduced by an integer factor first, which is cheap.
    factor = max(min(gray.size) // (4 * _GRAY_SIDE), 1)
    gray = gray.reduce(factor)
    return _hash_gray(gray), _hash_gray(gray.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


def _hash_gray(gray: Image.Image) -> ImageHash:
    cells = np.asarray(gray.resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX), np.int16)
    bits = np.packbits(cells[:, :-1] > cells[:, 1:])
    small = gray.resize((_GRAY_SIDE, _GRAY_SIDE), Image.Resampling.BOX)
    return ImageHash(int.from_bytes(bits.tobytes(), "big"), small.tobytes())


def find_similar_pairs(
    first: Sequence[ImageHash], second: Sequence[ImageHash]
) -> list[SimilarPair]:
    """Return pairs of near-duplicates, one image from each list, the most similar first.

    Compares every image of one list with every image of the other, in blocks: a hundred million
    pairs take seconds.
    """
    hashes = np.array([each.bits for each in first], dtype=np.uint64)
    other_hashes = np.array([each.bits for each in second], dtype=np.uint64)
    grays, other_grays = _grays(first), _grays(second)
    pairs = []
    for start, (rows, columns, bits) in _close_hashes(hashes, other_hashes):
        difference = np.abs(grays[start + rows] - other_grays[columns]).mean(axis=1)
        similar = difference <= _MAX_GRAY_DIFFERENCE
        pairs += [
            SimilarPair(start + row, column, distance)
            for row, column, distance in zip(
                rows[similar].tolist(),
                columns[similar].tolist(),
                bits[similar].tolist(),
                strict=True,
            )
        ]
    return sorted(pairs, key=lambda pair: (pair.bits, pair.first, pair.second))


_CloseHashes = tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]


def _close_hashes(
    first: UInt64[np.ndarray, " N"], second: UInt64[np.ndarray, " M"]
) -> Iterator[tuple[int, _CloseHashes]]:
    """Yield (start, (row, column, differing bits)) of close hashes, for each block of rows."""
    height = max(_PAIRS_PER_BLOCK // max(len(second), 1), 1)
    for start in range(0, len(first), height):
        bits = _count_ones(first[start : start + height, None] ^ second[None])
        rows, columns = np.nonzero(bits <= _MAX_BITS)
        yield start, (rows, columns, bits[rows, columns].astype(np.int64))


def _count_ones(words: UInt64[np.ndarray, "N M"]) -> UInt8[np.ndarray, "N M"]:
    """Return the number of 1 bits, summed by pairs, fours and bytes: NumPy 1 has no bit count."""
    pairs, fours, bytes_, all_ = (
        np.uint64(mask)
        for mask in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)
    )
    words = words - ((words >> np.uint64(1)) & pairs)
    words = (words & fours) + ((words >> np.uint64(2)) & fours)
    words = (words + (words >> np.uint64(4))) & bytes_
    return ((words * all_) >> np.uint64(56)).astype(np.uint8)


def _grays(hashes: Sequence[ImageHash]) -> NDArray[np.int16]:
    gray = np.frombuffer(b"".join(each.gray for each in hashes), dtype=np.uint8)
    return gray.reshape(len(hashes), _GRAY_SIDE**2).astype(np.int16)
