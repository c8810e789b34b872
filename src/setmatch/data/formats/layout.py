"""The folders of a data set: what is in them, and where the image files are."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath

from setmatch.data.image_paths import is_data_name
from setmatch.data.splits import canonical

_SUSPICIOUS = re.compile(r"[/\\:\0]|\.\.")
_PROBED_NAMES = 20  # file names that decide which folder holds the images


def entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder that can hold data, each with True for a folder.

    A folder that does not exist or cannot be listed has no entries.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(
                (entry.name, entry.is_dir()) for entry in found if is_data_name(entry.name)
            )
    except OSError:
        return []


def subfolders(folder: Path) -> list[Path]:
    """Return the folders inside a folder, sorted."""
    return [folder / name for name, is_folder in entries(folder) if is_folder]


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders inside a folder that are named after splits, by split."""
    found: dict[str, Path] = {}
    for path in subfolders(folder):
        name = canonical(path.name)
        if name is not None:
            found.setdefault(name, path)
    return found


def files_in(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted names of the files in a folder that end in one of `suffixes`."""
    ends = tuple(suffixes)
    return [
        name for name, is_folder in entries(folder) if not is_folder and name.lower().endswith(ends)
    ]


def image_root(annotations: Path, names: Sequence[str]) -> Path:
    """Return the folder near an annotation file that holds the image files `names`.

    If no folder holds any of the first names, return the first usual folder that exists.
    """
    usual = image_folders(annotations)
    for folder in (*usual, *_neighbors(annotations)):
        if any((folder / name).is_file() for name in names[:_PROBED_NAMES]):
            return folder
    # The annotation file's own folder is a usual one, so that at least one exists.
    return next(folder for folder in usual if folder.is_dir())


def image_folders(annotations: Path) -> list[Path]:
    """Return the folders that usually hold the images of an annotation file, likeliest first."""
    here = annotations.parent
    root = here.parent if here.name == "annotations" else here
    split = annotations.stem.removeprefix("instances_").removeprefix("panoptic_")
    return [root / split, root / "images" / split, root / "images", here, root]


def _neighbors(annotations: Path) -> list[Path]:
    """Return the folders beside an annotation file, then the folders inside those."""
    here = annotations.parent
    root = here.parent if here.name == "annotations" else here
    beside = subfolders(root)
    return [*beside, *(inner for folder in beside for inner in subfolders(folder))]


def missing_files(root: Path, names: Sequence[str]) -> list[str]:
    """Return which files are missing under `root`. Lists each folder once and opens no file."""
    folders: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _names(root / folder)
        if base not in folders[folder]:
            missing.append(name)
    return missing


def _names(folder: Path) -> set[str]:
    # `entries` would sort the names and ask for the kind of each: too slow for 100,000 images.
    try:
        with os.scandir(folder) as found:
            return {entry.name for entry in found}
    except OSError:
        return set()  # the files of a folder that cannot be listed count as missing


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all files."""
    parents = sorted({path.parent for path in paths})
    first = parents[0]
    return next(
        folder
        for folder in (first, *first.parents)
        if all(parent.is_relative_to(folder) for parent in parents)
    )


def relocate_path(folder: Path, written: str) -> Iterator[Path]:
    """Yield where a path written in a file of `folder` may be on this machine, likeliest first.

    The path as written comes first, then ever fewer of its last parts inside `folder`:
    /content/set/images/train, data/images/train and ../images/train may all be images/train.
    """
    yield folder / written
    # The Windows flavor knows drives and both kinds of slashes.
    path = PureWindowsPath(written)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    for first in range(len(parts)):
        yield folder.joinpath(*parts[first:])


def is_path_traversal(name: str) -> bool:
    """Return whether a file name leads out of its folder."""
    if not _SUSPICIOUS.search(name):
        return False
    path = PureWindowsPath(name)
    return bool(path.drive or path.root or ".." in path.parts or "\0" in name)
