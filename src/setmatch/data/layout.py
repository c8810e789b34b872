"""Where data sets keep their annotation files and images, and whether all images are there."""

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from setmatch.errors import DataError

_ANNOTATIONS = (
    "annotations/instances_{}2017.json",
    "{}/_annotations.coco.json",
    "annotations/{}.json",
    "annotations/instances_{}.json",
)
_SYNONYMS = {"val": ("val", "valid"), "valid": ("valid", "val")}


def find_split(folder: Path, split: str) -> tuple[Path, Path]:
    """Return the annotation file of a split ("train", "val", ...) and the folder of its images.

    Known are annotations/instances_train2017.json with train2017/, train/_annotations.coco.json,
    and annotations/train.json with images/ or images/train/; `valid` is another word for `val`.
    Raises DataError with what was looked for and what was found.
    """
    tried = [
        pattern.format(name) for name in _SYNONYMS.get(split, (split,)) for pattern in _ANNOTATIONS
    ]
    for name in tried:
        annotations = folder / name
        if annotations.is_file():
            return annotations, _first_folder(annotations)
    found = ", ".join(_json_files(folder)) or "no JSON file"
    raise DataError(
        f"{folder}: no annotations of split {split!r}; looked for {', '.join(tried)}; found {found}"
    )


def image_root(annotations: Path, names: Sequence[str]) -> Path:
    """Return the folder near `annotations` in which the files `names` lie.

    Where none has any of the first files, it is the folder in which they would be expected.
    """
    for folder in _image_folders(annotations):
        if any((folder / name).is_file() for name in names[:20]):
            return folder
    return _first_folder(annotations)


def require_files(root: Path, names: Sequence[str]) -> None:
    """Make sure that all files `names` are under `root`, by listing folders, not file by file.

    Raises DataError with how many are missing, and the first of them.
    """
    folders: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, base = name.rpartition("/")
        if folder not in folders:
            folders[folder] = _entries(root / folder)
        if base not in folders[folder]:
            missing.append(name)
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise DataError(
            f"{root}: {len(missing)} of {len(names)} image files are missing: "
            f"{', '.join(missing[:3])}{more}; complete the folder, or name the right one"
        )


def _image_folders(annotations: Path) -> list[Path]:
    here = annotations.parent
    root = here.parent if here.name == "annotations" else here
    split = annotations.stem.removeprefix("instances_")
    return [root / split, root / "images" / split, root / "images", here, root]


def _first_folder(annotations: Path) -> Path:
    # The annotations' own folder always exists, so there is always a first one.
    return next(folder for folder in _image_folders(annotations) if folder.is_dir())


def _entries(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()  # a folder that cannot be listed holds no image; its files count as missing


def _json_files(folder: Path) -> list[str]:
    found = (path for depth in ("*.json", "*/*.json") for path in folder.glob(depth))
    return sorted(str(path.relative_to(folder)) for path in islice(found, 20))
