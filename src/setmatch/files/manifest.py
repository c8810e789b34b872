"""Folders that are written atomically, with checksums that reveal any changed bit.

Measured: neither safetensors nor .pth detects a flipped bit, and a plain save that is killed leaves
files that cannot be loaded. Every folder therefore has the SHA-256 of its files, is written under a
temporary name, flushed to the disk, and then renamed.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from setmatch.errors import UnwritableError
from setmatch.files.reading import open_regular, read_text
from setmatch.files.writing import atomic_folder

MANIFEST = "manifest.json"
ITSELF = "manifest_sha256"  # of everything else in the manifest


class DamagedError(Exception):
    """A folder does not match its manifest; the message names the file and what is wrong."""


def write_whole(folder: Path, fill: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
    """Write `folder` atomically: the files that `fill` writes, and a manifest with `facts`.

    An existing folder is replaced. If anything fails, or the process is killed, it stays as it was.
    Raises UnwritableError, naming the folder, if the disk is full or read-only.
    """
    try:
        with atomic_folder(folder, replace=True, durable=True) as temporary:
            fill(temporary)
            write_manifest(temporary, facts)
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch reports a full disk as RuntimeError, safetensors by its own error. The death of a
        # data-loading worker in the meantime is a RuntimeError as well.
        if "DataLoader" in str(error):
            raise
        raise UnwritableError(
            f"{folder}: cannot be written ({' '.join(str(error).split())}); earlier contents are "
            "intact: free space or choose another folder, then continue with --resume"
        ) from error


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of all files in `folder`, with `facts`."""
    files = {path.name: _fingerprint(path) for path in sorted(folder.iterdir())}
    manifest = {**facts, "files": files}
    text = json.dumps({**manifest, ITSELF: _digest(manifest)}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return the manifest of `folder`, after comparing every file with it, or those of `names`.

    Raises DamagedError that names the file that is missing, truncated or changed.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(read_text(path))
        files, expected = dict(manifest["files"]), manifest.pop(ITSELF)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: cannot be read as a manifest ({error!r})") from None
    if _digest(manifest) != expected:
        raise DamagedError(f"{path}: its own SHA-256 does not match: bits have changed")
    for name in files if names is None else names:
        expected = files.get(name, "nothing of it")
        actual = _fingerprint_or_error(folder / name)
        if actual != expected:
            raise DamagedError(f"{folder / name}: {_difference(actual, expected)}")
    return manifest


def _fingerprint_or_error(path: Path) -> dict[str, Any] | str:
    try:
        return _fingerprint(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _difference(actual: dict[str, Any] | str, expected: Any) -> str:
    if isinstance(actual, str):
        return actual
    if not isinstance(expected, dict) or actual["bytes"] != expected.get("bytes"):
        return f"has {actual['bytes']} bytes, the manifest says {expected}"
    return "its SHA-256 is not the one in the manifest: bits have changed"
