"""Read files of tensors: nothing in them is run, and none costs more than about its size.

The parts of a .pth have checksums, so that a changed byte is found.

A pickle of a few hundred bytes can ask for any amount of memory: by compression, by tensors that
repeat one number, or by the one function of torch's safe list that allocates. All are refused.
"""

import argparse
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from setmatch.errors import WeightsError, short
from setmatch.files.reading import open_regular, require_regular
from setmatch.models.weights.layouts.key_map import State

MAX_REUSE = 4  # tensors may share memory, as those of tied layers do, up to this much of the file
MOST_INDEX_BYTES = 50_000_000  # of the pickle, without the tensors
CHUNK_BYTES = 1 << 20
ALLOCATES = {"builtins bytearray", "__builtin__ bytearray"}
_LEGACY_PICKLES = 5  # at the beginning of a file from before torch 1.6
_UNPICKLING = (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError)
_READING = (*_UNPICKLING, IndexError, AssertionError, OverflowError, MemoryError, RecursionError)


def read_safetensors(path: Path) -> State:
    """Return the tensors of a safetensors file; raises WeightsError with the path."""
    try:
        require_regular(path)
        # Copies: `load_file` maps the file, and what is written over it would change the weights of
        # a model in use, or end the process.
        state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError, *_READING) as error:
        raise WeightsError(f"{path}: cannot be read ({_reason(error)})") from None
    return state


def read_pickle(path: Path, device: torch.device | str = "cpu") -> Any:
    """Return the content of a .pth or .bin file: tensors, on `device`, and plain values.

    Raises WeightsError for files that are damaged, would run code, or would need far more memory
    than they are large.
    """
    try:
        require_regular(path)
        for index in _pickles(path):
            _refuse_allocation(index, path)
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about what is refused in the next moment
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it would run {blocked[1]}" if blocked else "its pickle is not plain data"
        raise WeightsError(
            f"{path}: refused, {what}; only tensors and plain values are read. If you trust the "
            "file, save its tensors alone where it was made: torch.save(model.state_dict(), ...)"
        ) from None
    except (zipfile.BadZipFile, *_READING) as error:
        raise WeightsError(
            f"{path}: damaged checkpoint ({_reason(error)}); download it again"
        ) from None


def require_plain_tensors(state: Mapping[Any, Any], path: Path) -> State:
    """Return a dictionary read from the file `path`, after checking that it holds plain tensors.

    Raises WeightsError for anything else, and for tensors that need more memory than the file has.
    """
    others = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: {short(others[0])} is not a tensor; not a model checkpoint")
    total = 0
    for key, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise WeightsError(
                f"{path}: tensor {short(key)} is sparse, quantized or without values; save it as a "
                "plain tensor"
            )
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise WeightsError(
                f"{path}: tensor {short(key)} of shape {tuple(value.shape)} repeats a smaller one; "
                "save a copy of it (.clone())"
            )
        total += value.numel() * value.element_size()
    if total > MAX_REUSE * path.stat().st_size:
        raise WeightsError(f"{path}: its tensors need {total} bytes, far more than the file has")
    return {str(key): value.detach() for key, value in state.items()}


def _pickles(path: Path) -> Iterator[bytes | BytesIO]:
    """Yield the pickles of a torch file; raises WeightsError for a file that is compressed."""
    if not zipfile.is_zipfile(path):
        with open_regular(path) as file:
            yield BytesIO(file.read(MOST_INDEX_BYTES))
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        size = path.stat().st_size
        is_stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not is_stored or sum(entry.file_size for entry in entries) > size:
            raise WeightsError(
                f"{path}: its content is compressed and may be far larger than the file; save it "
                "with torch.save"
            )
        for entry in entries:
            if entry.CRC == 0:  # torch was told not to compute it (set_crc32_options)
                del entry.CRC  # otherwise a check fails
            if entry.filename.endswith("data.pkl"):
                yield archive.read(entry)
            else:
                _check(archive, entry)


def _check(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise BadZipFile for bytes of another checksum, which torch does not look at."""
    with archive.open(entry) as file:
        while file.read(CHUNK_BYTES):
            pass


def _refuse_allocation(index: bytes | BytesIO, path: Path) -> None:
    """Raise WeightsError for a pickle that calls what allocates memory by a number."""
    count = 1 if isinstance(index, bytes) else _LEGACY_PICKLES
    if isinstance(index, bytes) and len(index) > MOST_INDEX_BYTES:
        raise WeightsError(f"{path}: its index of {len(index)} bytes is too large")
    with suppress(ValueError):  # where it cannot be read any further, torch reports it
        for _ in range(count):
            for operation, argument, _ in pickletools.genops(index):
                if operation.name == "GLOBAL" and argument in ALLOCATES:
                    raise WeightsError(f"{path}: refused, its pickle is not plain data")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
