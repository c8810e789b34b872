"""Read an image, whatever holds it: a file, an address, the bytes of a file, or pixels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from setmatch.bulk.remote import is_remote, read_remote
from setmatch.data.images.decoding import decode_pixels, read_pixels
from setmatch.errors import DataError, short

_EXPECTED = (
    "expected a path, the bytes of a file, or a uint8 array (H, W, 3), RGB, of at least one pixel"
)


def read_source(source: object) -> UInt8[np.ndarray, "H W 3"]:
    """Return the upright RGB pixels of an image.

    Raises DataError if it cannot be read, and for anything else: a column may have all kinds of
    values, and one of them does not take the others along.
    """
    if isinstance(source, str | Path):
        text = str(source)
        return decode_pixels(read_remote(text), text) if is_remote(text) else read_pixels(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return decode_pixels(bytes(source), "the given bytes")
    pixels = _array(source)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"{type(source).__name__} of {pixels.dtype}, shape {pixels.shape}: {_EXPECTED}"
        )
    # Torch takes neither negative strides (BGR reversed to RGB) nor read-only memory.
    return np.require(pixels, requirements=["C_CONTIGUOUS", "WRITEABLE"])


def _array(source: object) -> np.ndarray:
    """Return an array, or what says itself how to become one; raises DataError for anything else.

    numpy would fill the memory with a long range, and fail in many ways for lists.
    """
    if not (hasattr(source, "__array__") or hasattr(source, "__array_interface__")):
        raise DataError(f"{short(source)} ({type(source).__name__}): {_EXPECTED}")
    try:
        return np.asarray(source)
    except Exception as error:  # of a library that it comes from
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{type(source).__name__} ({reason}): {_EXPECTED}") from error


def reader_threads(sources: Sequence[object]) -> int:
    """Return how many threads read: more for addresses, which take longest to respond."""
    return 16 if any(isinstance(each, str) and is_remote(each) for each in sources) else 2
