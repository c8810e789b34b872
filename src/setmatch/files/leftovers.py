"""Temporary files beside what is written: their names say who writes, so that dead ones can go.

A name is .writing-PID-STARTED-MACHINE-NUMBER-DIGEST.SUFFIX: the process as `lock_holder` knows it,
a number that threads do not share, and the name of what is written.
"""

import hashlib
import itertools
import os
import re
import shutil
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from setmatch.files.lock_holder import Holder, process_runs

TEMPORARY, REPLACED, REMOVED = ".writing-", ".replaced-", ".removed-"
_LONGEST_SUFFIX = 16  # bytes
# After which nobody writes any more, where it cannot be asked: on another host, or before a reboot.
_FORGOTTEN_S = 24 * 3600
_NAME = re.compile(rf"{re.escape(TEMPORARY)}(\d{{1,9}})-(\d*)-([0-9a-f]{{8}})-\d+-")
_numbers = itertools.count()


def temporary_path(path: Path) -> Path:
    """Return a new temporary path for `path`: short, because a name may already be of 255 bytes.

    It keeps a usual suffix, from which many libraries tell the format to write.
    """
    writer = Holder.this_process()
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    return path.with_name(
        f"{TEMPORARY}{writer.pid}-{writer.started}-{_machine(writer)}-{next(_numbers)}-"
        f"{_digest(os.fsencode(path.name), 16)}{suffix}"
    )


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files in `folder`, and restore replaced folders.

    For a folder that is locked: whoever else writes there is dead. Files of processes that run
    on this machine stay all the same, as another command may write a file of its own there.
    """
    for replaced in folder.glob(f"{REPLACED}*"):
        original = replaced.with_name(replaced.name.removeprefix(REPLACED))
        if original.exists():
            delete(replaced)
        else:
            replaced.rename(original)
    for temporary in folder.glob(f"{TEMPORARY}*"):
        if not _writer_runs(temporary):
            delete(temporary)
    for removed in folder.glob(f"{REMOVED}*"):
        delete(removed)


def remove_dead(folder: Path) -> None:
    """Remove temporary files of dead processes in `folder`, into which others may write now.

    Of processes of another host, or from before a reboot, those that nobody touched for a day are.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            path = Path(entry.path)
            if _NAME.match(path.name) and _is_dead(path):
                delete(path)


@lru_cache(maxsize=1024)
def remove_dead_once(folder: Path) -> None:
    """Do so once for each folder, which may be of a million files that are written one by one."""
    remove_dead(folder)


def delete(path: Path) -> None:
    """Remove a file or folder as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _writer_runs(temporary: Path) -> bool | None:
    """Return whether the process that writes a temporary file runs; None if it is not known."""
    named = _NAME.match(temporary.name)
    if named is None or named[3] != _machine(Holder.this_process()):
        return None
    return process_runs(int(named[1]), named[2])


def _is_dead(temporary: Path) -> bool:
    runs = _writer_runs(temporary)
    if runs is not None:
        return not runs
    with suppress(OSError):
        touched_s = max(path.lstat().st_mtime for path in (temporary, *temporary.rglob("*")))
        return time.time() - touched_s > _FORGOTTEN_S
    return False  # it is gone, or changes


def _machine(process: Holder) -> str:
    return _digest(f"{process.host} {process.machine}".encode(), 8)


def _digest(name: bytes, length: int) -> str:
    return hashlib.sha256(name).hexdigest()[:length]
