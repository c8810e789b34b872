"""Lists of different lengths in one flat array: list i is `offsets[i]` to `offsets[i + 1]`."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int, Int64

_NOT_UTF8 = "surrogateescape"


def offsets_of(counts: Int[np.ndarray, " N"]) -> Int64[np.ndarray, " N+1"]:
    """Return where lists of these lengths start, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def take_rows(
    offsets: Int64[np.ndarray, " _"], rows: Int[np.ndarray, " M"]
) -> tuple[Int64[np.ndarray, " K"], Int64[np.ndarray, " M+1"]]:
    """Return the positions of the chosen lists' elements, in order, and the lists' new offsets."""
    counts = np.diff(offsets)[rows]
    chosen = offsets_of(counts)
    start = np.repeat(offsets[:-1][rows] - chosen[:-1], counts)
    return start + np.arange(chosen[-1]), chosen


def pack(texts: Sequence[str]) -> tuple[bytes, Int64[np.ndarray, " _"]]:
    """Return texts as one UTF-8 buffer, and their offsets in it.

    A file name need not be UTF-8: its other bytes are kept as they are, as os.fsencode does.
    """
    encoded = [text.encode(errors=_NOT_UTF8) for text in texts]
    return b"".join(encoded), offsets_of(np.array([len(text) for text in encoded], dtype=np.int64))


def unpack(buffer: bytes, offsets: Int64[np.ndarray, " _"]) -> list[str]:
    """Return the texts that `pack` packed."""
    ends = offsets.tolist()
    return [decode(buffer[a:b]) for a, b in pairwise(ends)]


def decode(text: bytes) -> str:
    """Return one text of a buffer that `pack` made."""
    return text.decode(errors=_NOT_UTF8)
