"""Atomic writing of files and folders, checks before long work, and the cache folder.

A write removes what killed processes have left beside its file or folder.
"""

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from setmatch.errors import ConfigError, short
from setmatch.files.leftovers import (
    REMOVED,
    REPLACED,
    delete,
    remove_dead,
    remove_dead_once,
    temporary_path,
)
from setmatch.interruption import uninterrupted

_TRIES = 20  # to replace a folder that others replace at the same time
_SPECIAL = "is a device, pipe or socket, no file"


# Of what a command shows or counts; folders have other dots in their names, such as a model's.
_RESULTS = frozenset(
    [
        ".csv",
        ".json",
        ".jsonl",
        ".txt",
        ".html",
        ".pdf",
        ".jpg",
        ".jpeg",
        ".png",
        ".gif",
        ".mp4",
        ".avi",
        ".mov",
        ".mkv",
    ]
)


def require_file(path: str | Path) -> None:
    """Raise ConfigError unless a file can be written at `path`. Call it before hours of work."""
    path = Path(path)
    _require_name(path)
    if path.is_dir():
        example = path / f"file{path.suffix or '.html'}"
        raise ConfigError(f"{path}: is a folder; name a file, such as {example}")
    if _is_special(path):
        raise ConfigError(f"{path}: {_SPECIAL}; name a file")
    _require_writable(path, path.absolute().parents)


def require_page(path: str | Path) -> None:
    """Raise ConfigError unless `path` ends in .html, and a file can be written there."""
    require_file(path)
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: a page is HTML; name a file that ends in .html")


def require_folder(path: str | Path) -> None:
    """Raise ConfigError unless files can be written into the folder `path`."""
    path = Path(path)
    _require_name(path)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{path}: is not a folder; name a folder")
    if path.suffix.lower() in _RESULTS and not path.exists():
        raise ConfigError(
            f"{path}: a folder is written, of several files; name one without {path.suffix}"
        )
    _require_writable(path, (path.absolute(), *path.absolute().parents))


def _require_name(path: Path) -> None:
    """Raise ConfigError for a path that no file can have, such as one of a very long name."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            path.lstat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        shown = short(str(path), 200)
        raise ConfigError(f"{shown}: cannot be written ({reason}); name another") from None


def _require_writable(path: Path, folders: Sequence[Path]) -> None:
    """Raise ConfigError that names `path` unless the first folder that exists takes files."""
    above = next(each for each in folders if each.exists())
    if not above.is_dir():
        raise ConfigError(f"{path}: cannot be written: {above} is not a folder; name another")
    try:  # what a folder such as /proc refuses, its permissions do not tell
        with TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: no file can be made in {above} ({error.strerror}); "
            "name another"
        ) from None


def _is_special(path: Path) -> bool:
    """Return whether a path leads to a device, pipe or socket, which a rename would destroy."""
    try:
        mode = path.stat().st_mode
    except OSError:  # such as a link to nothing
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _require_ordinary(path: Path) -> None:
    if _is_special(path):
        raise OSError(errno.EINVAL, _SPECIAL, str(path))


@contextmanager
def atomic_file(path: Path, durable: bool = True, aside: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it to `path` if the block succeeds.

    If the block fails or the process is killed, `path` is unchanged. Missing folders are created.
    The temporary file lies in `aside` instead, if given: a folder of the same file system. A
    `durable` file is flushed to the disk before the rename; others are faster to write but may be
    damaged by a power failure. Raises OSError that names `path`, never the temporary file; also if
    `path` is a device, pipe or socket.
    """
    _require_ordinary(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path if aside is None else aside / path.name)
    remove_dead_once(temporary.parent)
    try:
        yield temporary
        if durable:
            _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _of_place(error, path, temporary) from error
    finally:
        # What failed is worth more than that the clean-up fails as well.
        with uninterrupted(), suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    r"""Write a text file in UTF-8, whole or not at all.

    Bytes of file names that are not UTF-8 are written as \udc80 to \udcff, which JSON reads back.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def append_text(path: Path, text: str) -> None:
    """Append to a text file in UTF-8, which is created where there is none.

    Raises OSError for what cannot be written, also for a pipe: it would wait for a reader.
    """
    if path.is_fifo():
        raise OSError(errno.EINVAL, "is a pipe, no file", str(path))
    # Without O_NONBLOCK, a pipe that has taken the file's place since would wait, too.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags, 0o666), "a", encoding="utf-8", newline="") as file:
        file.write(text)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False, durable: bool = False) -> Iterator[Path]:
    """Yield a new folder beside `path`, and rename it to `path` if the block succeeds.

    If the block fails, nothing is left and `path` is unchanged. Without `replace`, `path` must be
    absent or an empty folder. A `durable` folder is flushed to the disk with its files. If the
    process is killed while a folder is replaced, `remove_leftovers` restores the old one.
    """
    temporary = temporary_path(path)
    remove_dead(path.parent)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if durable:
            for each in [*temporary.rglob("*"), temporary]:
                _flush(each)
        with uninterrupted():
            if replace:
                _replace(path, temporary)
            else:
                if path.is_dir():
                    path.rmdir()
                temporary.rename(path)
        if durable:
            _flush(path.parent)
    except OSError as error:
        raise _of_place(error, path, temporary) from error
    finally:
        with uninterrupted():
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_files(path: Path, *others: Path) -> Iterator[Path]:
    """Yield a temporary path in a new folder; files that belong together get their names at once.

    The block writes a file or folder of the name of `path`, and those of `others` beside it; all
    lie in one folder in the end. If the block fails or the process is killed in it, nothing
    changes. `path` is renamed last, so that where it is new, its others are there.
    """
    for each in (path, *others):
        _require_ordinary(each)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = temporary_path(path)
    remove_dead(path.parent)
    try:
        folder.mkdir()
        yield folder / path.name
        for each in (*others, path):
            _flush(folder / each.name)
        with uninterrupted():
            for each in (*others, path):
                (folder / each.name).replace(each)
    except OSError as error:
        raise _of_place(error, path, folder) from error
    finally:
        with uninterrupted():
            shutil.rmtree(folder, ignore_errors=True)


def remove_whole(path: Path) -> None:
    """Remove a file or folder so that no part of it is ever left under its name."""
    removed = path.with_name(f"{REMOVED}{path.name}")
    delete(removed)
    path.rename(removed)
    delete(removed)


def set_aside(path: Path) -> Path | None:
    """Rename whatever is at `path` to a name that is free, and return it; None if nothing is."""
    if not os.path.lexists(path):
        return None
    numbers = itertools.count(1)
    names = (path.with_name(f"{path.name}.old_{number}") for number in numbers)
    free = next(name for name in names if not os.path.lexists(name))
    return path.rename(free)


def cache_folder() -> Path:
    """Return the folder of downloads and data set caches: $SETMATCH_CACHE, or the user's cache."""
    if chosen := os.environ.get("SETMATCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "setmatch"


def _of_place(error: OSError, path: Path, temporary: Path) -> OSError:
    """Return an error that names `path` in place of a temporary file, or of nothing.

    A full disk names no file at all. Errors of libraries that have no number say more themselves.
    """
    name = error.filename
    if error.errno is None or not (name is None or str(name).startswith(str(temporary))):
        return error
    return OSError(error.errno, error.strerror, str(path))


def _replace(path: Path, temporary: Path) -> None:
    # No system call replaces a folder that has files, so the old one is renamed for a moment.
    # Another process may do the same meanwhile; the last one's folder stays.
    replaced = path.with_name(f"{REPLACED}{path.name}")
    for tries_left in reversed(range(_TRIES)):
        try:
            if os.path.lexists(path):
                delete(replaced)
                path.rename(replaced)
            temporary.rename(path)
            break
        except OSError as error:
            taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
            if not (taken and tries_left and temporary.exists()):
                raise
    delete(replaced)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
