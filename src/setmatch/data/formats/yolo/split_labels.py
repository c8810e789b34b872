"""Splits of images that all lie in one folder, while their labels are divided: labels/train."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.formats.layout import (
    IMAGE_FOLDERS,
    files_in,
    folders_named,
    folders_of_splits,
)
from setmatch.data.formats.yolo.label_files import labels_of
from setmatch.data.formats.yolo.label_places import LABEL_FOLDERS
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.errors import counted


@dataclass(frozen=True)
class SplitLabels:
    """The folder of all images, and the folder of labels of each split, by split."""

    images: Path
    folders: dict[str, Path]
    notes: tuple[str, ...] = ()  # on images that belong to no split


def split_labels(root: Path) -> SplitLabels | None:
    """Return the divided labels of a folder of images; None where there are none."""
    for images in (*folders_named(root, IMAGE_FOLDERS), root):
        count = len(files_in(images, SUFFIXES))
        for place in _places(root) if count else ():
            found: dict[str, Path] = {}
            labeled: set[str] = set()
            for split, folder in folders_of_splits(place):
                own = labels_of(images, folder)
                if own and split not in found:
                    found[split] = folder
                    labeled |= own.keys()
            if found:
                rest = count - len(labeled)
                note = f"{counted(rest, 'image')} without a label file in no split: left out"
                return SplitLabels(images, found, (note,) if rest else ())
    return None


def _places(root: Path) -> Iterator[Path]:
    """Yield the folders that may hold a folder of labels for each split: labels/, or the root."""
    yield from folders_named(root, LABEL_FOLDERS)
    yield root
