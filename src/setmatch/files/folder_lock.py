"""A lock on a folder: one process writes it at a time, seen from every host.

The lock is the file FOLDER/.lock. Its holder locks it by the system's own lock, which ends with the
process however that ends, writes into it who it is, and touches it every few seconds. Some network
file systems keep the system's locks to one host. A lock that another host left behind is therefore
watched for a while: a holder that runs touches it.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from setmatch.errors import ConfigError
from setmatch.files.lock_holder import Holder
from setmatch.files.reading import open_regular

try:
    import fcntl
except ImportError:  # on Windows, where only the content of the file is known
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_TOUCHED_EVERY_S = 5.0
_WATCHED_S = 30.0
_MOST_BYTES = 4096

log = logging.getLogger("setmatch")
_open_files: set[int] = set()


class FolderLock:
    """The lock of this process on a folder, until `release`."""

    def __init__(self, folder: Path) -> None:
        """Lock the folder, which is created if it is missing.

        Raises ConfigError that names the holder if another process writes the folder, or if it
        cannot be written.
        """
        self.folder, self._path = folder, folder.absolute() / LOCK
        self._holder = Holder.this_process()
        above = (self._path.parent, *self._path.parent.parents)
        self._made = [each for each in above if not each.exists()]
        self._file = self._lock()
        self._released = threading.Event()
        threading.Thread(target=self._keep_touching, name="folder lock", daemon=True).start()

    def is_lost(self) -> bool:
        """Return whether the folder was deleted, or belongs to another process by now."""
        return not _is_at(self._file, self._path) or _read(self._path) != self._holder

    def renew(self) -> None:
        """Create and lock the folder again; raise ConfigError as the constructor does."""
        _close(self._file)
        self._file = -1  # until it is locked
        self._file = self._lock()

    def release(self) -> None:
        """Unlock the folder, and remove it if it was created for the lock and is empty."""
        if os.getpid() != self._holder.pid:  # a fork of the holder
            return
        self._released.set()
        if not self.is_lost():
            with suppress(OSError):
                self._path.unlink()
        _close(self._file)
        self._file = -1
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()

    def _lock(self) -> int:
        """Return the open lock file, with this process in it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file, is_free = _open_and_lock(self._path)
            with ExitStack() as undo:
                undo.callback(_close, file)
                left = _read(self._path)
                if not is_free or (left is not None and self._runs(left)):
                    raise self._held_by(left)
                os.ftruncate(file, 0)
                os.write(file, self._holder.dump().encode())
                undo.pop_all()
        except OSError as error:
            if os.path.lexists(self._path) and not self._path.is_file():
                problem = f"is in the place of the file that locks {self.folder}; remove it"
                raise ConfigError(f"{self._path}: {problem}") from None
            raise ConfigError(
                f"{self.folder}: cannot be written ({error.strerror}); name another folder"
            ) from None
        return file

    def _runs(self, holder: Holder) -> bool:
        """Return whether a process that is still named in the lock file runs."""
        runs = holder.runs()
        if runs is not None:
            return runs
        log.warning(
            "%s: was being written by %s; watching for %g s whether it still is",
            self.folder,
            holder,
            _WATCHED_S,
        )
        before, end = _touched_ns(self._path), time.monotonic() + _WATCHED_S
        while time.monotonic() < end:
            time.sleep(_TOUCHED_EVERY_S / 5)
            if _touched_ns(self._path) != before:
                return True
        return False

    def _held_by(self, holder: Holder | None) -> ConfigError:
        # None: the other process has locked the file, but not yet written its name.
        who = "another process" if holder is None else str(holder)
        stop = "stop it" if holder is None else f"stop it ({holder.how_to_stop()})"
        return ConfigError(
            f"{self.folder}: is being written by {who}; wait for it, {stop}, or name another folder"
        )

    def _keep_touching(self) -> None:
        while not self._released.wait(_TOUCHED_EVERY_S):
            with suppress(OSError):
                os.utime(self._path)


@contextmanager
def locked(folder: str | Path) -> Iterator[FolderLock]:
    """Keep a folder locked while its files are written.

    Raises ConfigError, before anything is written, as `FolderLock` does.
    """
    lock = FolderLock(Path(folder))
    with ExitStack() as stack:
        # Twice, because torch's signal handler for dead processes may raise in the middle.
        stack.callback(lock.release)
        stack.callback(lock.release)
        yield lock


def _open_and_lock(path: Path) -> tuple[int, bool]:
    """Open the lock file, and return whether no other process has locked it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _open_files.add(file)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            _close(file)
            raise OSError(0, f"{path} is not a file")
        if not _lock(file):
            return file, False
        if _is_at(file, path):
            return file, True
        _close(file)  # the last holder removed it after it was opened here


def _is_at(file: int, path: Path) -> bool:
    """Return whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def _lock(file: int) -> bool:
    """Lock an open file; return whether no other process has. True where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _read(path: Path) -> Holder | None:
    try:
        with open_regular(path) as file:
            return Holder.parse(file.read(_MOST_BYTES).decode(errors="replace"))
    except OSError:
        return None


def _touched_ns(path: Path) -> int:
    """Return when the lock file was touched; -1 if it is gone."""
    try:
        # A network file system asks its server when a file is opened.
        with open_regular(path) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return -1


def _close(file: int) -> None:
    if file in _open_files:
        _open_files.remove(file)
        os.close(file)


def _close_all() -> None:
    """Let the lock end with its holder, not with the last of the processes that it forked."""
    for file in list(_open_files):
        _close(file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)
