"""Files that appear whole or not at all, and where what can be made again is kept."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Give a path beside `path` to write to; it becomes `path` once the block has succeeded.

    When the block fails or the process is killed, `path` is what it was. Missing folders are made.
    A file that need not be `lasting` may be damaged when the power fails, but is there sooner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield aside
        if lasting:
            with aside.open("rb") as written:
                os.fsync(written.fileno())
        aside.replace(path)
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
