"""The folders of a data set: what is in them, and what may be entered."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from setmatch.data.formats.written_paths import fold, written_parts
from setmatch.data.images.image_paths import is_data_name
from setmatch.data.splits import canonical, split_in

log = logging.getLogger("setmatch")
# Folders of annotations beside folders of images, in small letters, the likeliest first.
ANNOTATION_FOLDERS = (
    *("annotations", "annots", "xmls", "xml", "labels", "annotation", "annot", "anns", "ann"),
    *("label", "json", "jsons", "coco", "gt", "ground_truth"),
)
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "data")  # in small letters
_MAX_FOLDERS = 20_000  # searched in one data set


def entries(folder: Path) -> list[tuple[str, bool]]:
    """Return the sorted names in a folder that can hold data, each with True for a folder.

    A folder that does not exist or cannot be listed has no entries.
    """
    return sorted(
        (entry.name, entry.is_dir()) for entry in _listing(folder) if is_data_name(entry.name)
    )


def subfolders(folder: Path) -> list[Path]:
    """Return the folders inside a folder, sorted."""
    names = [entry.name for entry in _listing(folder) if entry.is_dir()]
    return [folder / name for name in sorted(filter(is_data_name, names))]


def files_in(folder: Path, suffixes: Iterable[str]) -> list[str]:
    """Return the sorted names of the files in a folder that end in one of `suffixes`."""
    ends = tuple(suffixes)
    names = [
        entry.name
        for entry in _listing(folder)
        if entry.name.lower().endswith(ends) and not entry.is_dir()
    ]
    return sorted(filter(is_data_name, names))


def _listing(folder: Path) -> "list[os.DirEntry[str]]":
    # Folders of 100,000 images are listed several times: only what is asked about is looked at.
    try:
        with os.scandir(folder) as found:
            return list(found)
    except PermissionError:
        _say_unlisted(folder)
        return []
    except (OSError, ValueError):  # a name with a zero byte is a ValueError
        return []


@cache
def _say_unlisted(folder: Path) -> None:
    log.warning("%s: cannot be listed (no permission), so that its files are left out", folder)


def folders_named(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the folders inside a folder with one of these names, in any case, in their order."""
    found = [path for path in subfolders(folder) if path.name.lower() in names]
    return sorted(found, key=lambda path: names.index(path.name.lower()))


def folders_of_splits(folder: Path) -> list[tuple[str, Path]]:
    """Return the folders inside a folder whose names tell a split, each with its split.

    The likeliest folder of a split comes first: a whole name such as train before a word in it, as
    in images_train, and images before other things.
    """
    found = []
    for path in subfolders(folder):
        split = split_in(path.name)
        if split is not None:
            is_word = canonical(path.name) is None
            of_others = re.search("image|img|jpg|jpeg|photo", path.name.lower()) is None
            found.append((is_word, of_others, split, path))
    return [(split, path) for *_, split, path in sorted(found)]


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the likeliest folder of each split inside a folder, by split."""
    found: dict[str, Path] = {}
    for split, path in folders_of_splits(folder):
        found.setdefault(split, path)
    return found


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
    # Without the kind of each, for which links would be followed.
    return {entry.name for entry in _listing(folder)}  # none count where a folder cannot be listed


def common_folder(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all files."""
    return Path(os.path.commonpath({path.parent for path in paths}))


def folders_below(start: Path, root: Path) -> Iterator[Path]:
    """Yield the folder `start` of a data set and those in it, level by level, at most 20,000.

    Links to folders are followed only where `stays_inside` allows it, and never in circles.
    """
    real_root, real_start = root.resolve(), start.resolve()
    level, seen, count = [start], {real_start}, 0
    while level and count < _MAX_FOLDERS:
        following = []
        for folder in level:
            yield folder
            count += 1
            for inner in subfolders(folder):
                if not inner.is_symlink():
                    following.append(inner)
                elif _may_enter(real_root, inner):
                    target = inner.resolve()
                    around = real_start.is_relative_to(target)
                    if not around and not target.is_relative_to(real_start) and target not in seen:
                        seen.add(target)
                        following.append(inner)
        level = following


def stays_inside(root: Path, path: Path) -> bool:
    """Return whether a path below `root` leads out of it by no link to a folder.

    Links with the names of image folders may: people link to images on another disk, while other
    links may lead anywhere. Links to single image files may too: `convert-data --link` makes them.
    """
    if not path.is_relative_to(root):
        return False
    real_root = root.resolve()
    steps = [step for step in path.parents if step != root and step.is_relative_to(root)]
    return all(_may_enter(real_root, step) for step in steps)


def _may_enter(real_root: Path, folder: Path) -> bool:
    try:
        if not folder.is_symlink() or is_image_folder(folder.name):
            return True
        return folder.resolve().is_relative_to(real_root)
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte, or a circle
        return False


def is_image_folder(name: str) -> bool:
    """Return whether a folder is called as folders of images usually are."""
    return name.lower() in IMAGE_FOLDERS or split_in(name) is not None


def as_written(root: Path, folder: Path, written: str) -> tuple[str, ...] | None:
    """Return a relative path's parts below `root`, for one written in a file of `folder`.

    Returns None where the path is not relative or leads out of `root`.
    """
    text = written.replace("\\", "/")
    absolute = text.startswith("/") or ":" in text.split("/")[0]
    if absolute or "\0" in text or not folder.is_relative_to(root):
        return None
    path = os.path.normpath((folder.relative_to(root) / text).as_posix())
    parts = PurePosixPath(path).parts
    return None if ".." in parts[:1] else parts


def existing_path(root: Path, folder: Path, written: str) -> Path | None:
    """Return the file or folder in `root` that a path written in a file of `folder` means.

    That is the path as written if it is inside `root`, or else ever fewer of its last parts in
    `folder`, in any case and Unicode normal form. Returns None where there is none.
    """
    inside = as_written(root, folder, written)
    choices = [] if inside is None else [(root, inside)]
    parts = written_parts(written)
    choices += [(folder, parts[first:]) for first in range(len(parts))]
    for base, chosen in choices:
        found: Path | None = base
        for part in chosen:
            found = None if found is None else _entry(found, part)
        if found is not None and stays_inside(root, found / "any"):
            return found
    return None


def _entry(folder: Path, name: str) -> Path | None:
    """Return the entry of a folder with this name, or else the only one that is equal folded."""
    names = _names(folder)
    if name in names:
        return folder / name
    similar = [each for each in names if fold(each) == fold(name)]
    return folder / similar[0] if len(similar) == 1 else None
