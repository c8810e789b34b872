"""Paths that a file names, which were right on the machine where it was written."""

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath


def now_at(folder: Path, given: str) -> Iterator[Path]:
    """Yield where a path given in a file of `folder` may be today, the likeliest first.

    First as it is given; then inside `folder`, by fewer and fewer of its last parts: what was
    /content/set/images/train, data/images/train or ../images/train is images/train.
    """
    yield folder / given
    # The Windows flavour knows both kinds of slashes, and drives.
    path = PureWindowsPath(given)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    for first in range(len(parts)):
        yield folder.joinpath(*parts[first:])
