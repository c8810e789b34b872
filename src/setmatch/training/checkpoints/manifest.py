"""Folders that appear whole or not at all, and that notice when a bit of them has changed.

Measured: neither safetensors nor .pth notices a flipped bit, and a plain save that is killed leaves
files that cannot be loaded. So every folder carries the SHA-256 of its files, is written aside,
flushed to the disk, and only then given its name.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from setmatch.errors import TrainingError
from setmatch.files import atomic_folder

MANIFEST = "manifest.json"
ITSELF = "manifest_sha256"  # of everything else in the manifest


class DamagedError(Exception):
    """A folder that is not what its manifest says; the message names the file and what is wrong."""


def write_whole(folder: Path, fill: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
    """Let `fill` write files into a folder aside, add a manifest with `facts`, name it `folder`.

    A folder of that name is replaced. When anything fails, or the process is killed, `folder` is
    what it was before. Raises TrainingError, naming the folder, when the disk is full or read-only.
    """
    try:
        with atomic_folder(folder, replace=True, durable=True) as temporary:
            fill(temporary)
            files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
            manifest = {**facts, "files": files}
            text = json.dumps({**manifest, ITSELF: _digest(manifest)}, indent=1)
            (temporary / MANIFEST).write_text(text, encoding="utf-8")
    except (OSError, RuntimeError, SafetensorError) as error:
        # torch reports a full disk as RuntimeError, safetensors as its own error; but a worker that
        # reads images may die while this goes on, which is reported as RuntimeError as well.
        if "DataLoader" in str(error):
            raise
        raise TrainingError(
            f"{folder}: cannot be written ({' '.join(str(error).split())}); what was there before "
            "is intact: free space or choose another folder, then go on with --resume"
        ) from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of `folder` after comparing every file with it.

    Raises DamagedError that names the file that is missing, cut, changed or unknown.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        files, promised = dict(manifest["files"]), manifest.pop(ITSELF)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: cannot be read as a manifest ({error!r})") from None
    if _digest(manifest) != promised:
        raise DamagedError(f"{path}: its own SHA-256 is another: bits have changed")
    for name, promised in files.items():
        found = _look(folder / name)
        if found != promised:
            raise DamagedError(f"{folder / name}: {_difference(found, promised)}")
    return manifest


def _look(path: Path) -> dict[str, Any] | str:
    try:
        return _fingerprint(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _digest(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _difference(found: dict[str, Any] | str, promised: Any) -> str:
    if isinstance(found, str):
        return found
    if not isinstance(promised, dict) or found["bytes"] != promised.get("bytes"):
        return f"has {found['bytes']} bytes, the manifest promises {promised}"
    return "its SHA-256 is not the one in the manifest: bits have changed"
