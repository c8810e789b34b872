"""Named arrays and a JSON header in one file, mapped into memory instead of read.

The file begins with the SHA-256 of all that follows: the header's length, the header, the arrays,
each at a multiple of 64 bytes.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setmatch.files import atomic_file

_DIGEST = 32
_ALIGN = 64


def write_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file that appears whole or not at all; raises OSError when it cannot be.

    It is not forced to the disk: `read_arrays` would notice if it had not come there.
    """
    places, start = {}, 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.shape, start)
        start += -(-array.nbytes // _ALIGN) * _ALIGN
    text = json.dumps({"header": dict(header), "arrays": places}).encode()
    text += b" " * (-(_DIGEST + 8 + len(text)) % _ALIGN)
    digest = hashlib.sha256()
    with atomic_file(path, durable=False) as aside, aside.open("wb") as file:
        file.write(bytes(_DIGEST))
        for part in (len(text).to_bytes(8, "little"), text, *map(_padded, arrays.values())):
            digest.update(part)
            file.write(part)
        file.seek(0)
        file.write(digest.digest())


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and the arrays, which are read-only views of the mapped file.

    Raises OSError when the file cannot be opened, and ValueError when it is not what was written.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with memoryview(mapped) as view:
        if hashlib.sha256(view[_DIGEST:]).digest() != view[:_DIGEST]:
            raise ValueError(f"{path}: damaged")
        start = _DIGEST + 8
        end = start + int.from_bytes(view[_DIGEST:start], "little")
        tree = json.loads(bytes(view[start:end]))
    arrays = {}
    for name, (dtype, shape, offset) in tree["arrays"].items():
        count = int(np.prod(shape))
        flat = np.frombuffer(mapped, np.dtype(dtype), count, end + offset if count else 0)
        arrays[name] = flat.reshape(shape)
    return tree["header"], arrays


def _padded(array: NDArray[Any]) -> bytes:
    return array.tobytes() + bytes(-array.nbytes % _ALIGN)
