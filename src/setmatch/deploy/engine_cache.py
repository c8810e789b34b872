"""Exported files that are made once: written, verified, and kept in the cache folder."""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from setmatch.deploy.export import write_verified
from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.card import exported_card
from setmatch.deploy.verification.verify import images_to_verify
from setmatch.errors import ConfigError
from setmatch.files.leftovers import remove_leftovers
from setmatch.files.manifest import DamagedError, read_manifest, write_manifest
from setmatch.files.writing import atomic_folder, cache_folder, remove_whole
from setmatch.inference.engines.exported import ExportedEngine
from setmatch.models.detector import Detector
from setmatch.models.weights.downloads.resumable_download import LOCKS

log = logging.getLogger("setmatch")
_ONE_AT_A_TIME = threading.Lock()  # a file lock is for processes


def cached_engine(detector: Detector, kind: ExportFormat) -> ExportedEngine:
    """Return the engine of a verified file of the detector, as `cached_file` returns it."""
    return kind.open(cached_file(detector, kind))


def cached_file(detector: Detector, kind: ExportFormat) -> Path:
    """Return a verified file of the detector, for images of any size.

    The file is written if the cache has none of these weights, this card and these versions of
    the libraries. If another process is writing it, this one waits for it.
    Raises what `export` raises, ConfigError if there can be no cache, and OSError if it is full.
    """
    kind.require_libraries()
    folder = engine_folder(detector, kind)
    if not _is_whole(folder):
        with _one_writer(folder.parent):
            if not _is_whole(folder):  # another one may have written it meanwhile
                _make(detector, kind, folder)
    if kind.holds_code:
        _require_own(folder)
    return folder / f"model{kind.suffix}"


def engine_folder(detector: Detector, kind: ExportFormat) -> Path:
    """Return the folder in the cache for the file of a detector in a format, by its versions."""
    versions = [f"{name} {version(name)}" for name in ("torch", *kind.libraries)]
    return detector_folder(detector) / f"{kind.name}-{_digest(' '.join(versions))}"


def detector_folder(detector: Detector) -> Path:
    """Return the folder in the cache for all that belongs to these weights and this card."""
    card = exported_card(detector, None, False, (), {})
    return cache_folder() / "engines" / f"{card.sha256[:16]}-{_digest(card.to_json())}"


@contextmanager
def _one_writer(folder: Path) -> Iterator[None]:
    """Let one thread and process write into a folder, and remove what killed ones have left."""
    locks = cache_folder() / LOCKS
    try:
        locks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{locks}: cannot be made ({error.strerror}); engines need a cache: set the "
            "environment variable SETMATCH_CACHE to a folder that takes files"
        ) from None
    with _ONE_AT_A_TIME, FileLock(locks / f"{folder.name}.lock"):
        remove_leftovers(folder)
        yield


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _require_own(folder: Path) -> None:
    """Raise ConfigError for a folder of another user, or into which others may write."""
    for each in (folder, *folder.iterdir()):
        found = each.stat()
        if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
            raise ConfigError(
                f"{each}: other users may have written it, and compiled code is not run unless it "
                "is yours: remove it, or set SETMATCH_CACHE to a folder of your own"
            )


def _is_whole(folder: Path) -> bool:
    """Return True for a folder whose files are as they were verified."""
    try:
        read_manifest(folder)
    except DamagedError:
        return False
    return True


def _make(detector: Detector, kind: ExportFormat, folder: Path) -> None:
    log.warning(
        "%s: writing and verifying a file for the engine, once; it stays in %s",
        detector.card.preset,
        folder,
    )
    if folder.exists():
        remove_whole(folder)  # damaged
    try:
        with atomic_folder(folder, durable=True) as temporary:
            path = temporary / f"model{kind.suffix}"
            verification = write_verified(kind, detector, path, images_to_verify(None))
            compared = sum(each.difference.compared for each in verification.checks)
            write_manifest(temporary, {"verified_detections": compared})
    except OSError as error:
        if not _is_whole(folder):  # another process may have been faster
            raise OSError(error.errno, error.strerror, str(folder)) from error
