"""Files that appear whole or not at all, and where what can be made again is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setmatch.errors import ConfigError


def require_file(path: str | Path) -> None:
    """Raise ConfigError unless a file can be written at `path`: now, not after hours of work."""
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path}: a folder; name the file to write, as in {path / 'file.html'}")
    _require_reachable(path)


def require_folder(path: str | Path) -> None:
    """Raise ConfigError unless files can be written into a folder `path`."""
    _require_reachable(Path(path) / "file")


def _require_reachable(path: Path) -> None:
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir():
        raise ConfigError(f"{path}: cannot be written, since {above} is no folder; name another")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: cannot be written, since nobody lets you write in {above}")


@contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to; it becomes `path` once the block has succeeded.

    When the block fails or the process is killed, `path` is what it was. Missing folders are made.
    A file that need not be `lasting` may be damaged when the power fails, but is there sooner.
    Raises OSError that names `path`, whatever it was called while it was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield aside
        if lasting:
            with aside.open("rb") as written:
                os.fsync(written.fileno())
        aside.replace(path)
    except OSError as error:
        # A full disk names no file at all.
        if error.filename not in (None, str(aside)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder beside `path` to fill; it becomes `path` once the block has succeeded.

    `path` must be absent or an empty folder. When the block fails, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        aside.mkdir()
        yield aside
        if path.is_dir():
            path.rmdir()
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def cache_folder() -> Path:
    """Return where downloads and indexes are kept: $SETMATCH_CACHE, or in the user's cache."""
    if "SETMATCH_CACHE" in os.environ:
        return Path(os.environ["SETMATCH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "setmatch"
