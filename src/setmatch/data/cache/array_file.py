"""Named arrays and a JSON header in one safetensors file, memory-mapped instead of read.

Processes that open the same file share its memory.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from setmatch.files.reading import require_regular
from setmatch.files.writing import atomic_file


def write_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a file that appears whole or not at all; raises OSError.

    The file is not flushed to disk: after a power failure, `read_arrays` notices the damage.
    """
    text = json.dumps(dict(header))
    metadata = {"header": text, "sha256": _digest(text, arrays)}
    with atomic_file(path, durable=False) as temporary:
        save_file(dict(arrays), temporary, metadata)


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and the arrays, as read-only views of the mapped file.

    Raises OSError when the file cannot be opened, and ValueError when any bit has changed.
    """
    require_regular(path)
    try:
        # By way of torch, because safetensors' numpy reader copies every array.
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    for array in arrays.values():
        array.flags.writeable = False
    text = metadata.get("header", "")
    if metadata.get("sha256") != _digest(text, arrays):
        raise ValueError(f"{path}: damaged")
    header: dict[str, Any] = json.loads(text)
    return header, arrays


def _digest(text: str, arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
