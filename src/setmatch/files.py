"""Files that appear whole or not at all, and where what can be made again is kept."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it becomes `path` once the block has succeeded.

    When the block fails or the process is killed, `path` is what it was. Missing folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return where downloads and indexes are kept: $SETMATCH_CACHE, or in the user's cache."""
    if "SETMATCH_CACHE" in os.environ:
        return Path(os.environ["SETMATCH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "setmatch"
