"""Where the images of an annotation file are, and whether all of them are there."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath

from setmatch.data.splits import subfolders


def image_root(annotations: Path, names: Sequence[str]) -> Path:
    """Return the folder near `annotations` in which the files `names` lie.

    Where none has any of the first files, it is the folder in which they would be expected.
    """
    usual = image_folders(annotations)
    for folder in (*usual, *_near(annotations)):
        if any((folder / name).is_file() for name in names[:20]):
            return folder
    # The annotations' own folder always exists, so there is always a first one.
    return next(folder for folder in usual if folder.is_dir())


def missing_files(root: Path, names: Sequence[str]) -> list[str]:
    """Return which of the files `names` are not under `root`, by listing folders."""
    folders: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _entries(root / folder)
        if base not in folders[folder]:
            missing.append(name)
    return missing


def image_folders(annotations: Path) -> list[Path]:
    """Return where the images of an annotation file usually are, the most likely first."""
    here = annotations.parent
    root = here.parent if here.name == "annotations" else here
    split = annotations.stem.removeprefix("instances_").removeprefix("panoptic_")
    return [root / split, root / "images" / split, root / "images", here, root]


def _near(annotations: Path) -> list[Path]:
    """Return all folders beside the annotations, and those inside them."""
    here = annotations.parent
    root = here.parent if here.name == "annotations" else here
    beside = subfolders(root)
    return [*beside, *(inner for folder in beside for inner in subfolders(folder))]


def _entries(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()  # a folder that cannot be listed holds no image; its files count as missing


def relocate_path(folder: Path, given: str) -> Iterator[Path]:
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
