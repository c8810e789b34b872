"""Which folder has the labels of a folder of images, in layouts besides YOLO's own.

YOLO's own is images/train with labels/train, or train/images with train/labels. Others mix both,
pack a folder into one of its own name, or have one folder of labels for many folders of images.
"""

import filecmp
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

from setmatch.data.formats.class_names import is_list_of_names
from setmatch.data.formats.layout import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    files_in,
    folders_below,
    folders_named,
    subfolders,
)
from setmatch.data.formats.yolo.label_files import labels_of
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.data.splits import split_in
from setmatch.errors import DataError

LABEL_FOLDERS = ("labels", *ANNOTATION_FOLDERS, "txt", "txts", "yolo")  # the likeliest first


def label_folder(folder: Path, root: Path) -> Path:
    """Return the folder of the labels: labels/ in the place of images/, or the images' own.

    A word in a name counts too: train_labels/ for train_images/. Where there is no such folder, one
    in another place or called otherwise is, if it has label files of the images. Folders above the
    root mean nothing; only the root itself may be an images/ with labels/ beside it.
    """
    return _counterpart(folder, root) or next(_elsewhere(folder, root), folder)


def _counterpart(folder: Path, root: Path) -> Path | None:
    """Return the folder of labels that has the place of `folder` in a tree of its own."""
    parts = list(folder.parts)
    first = max(len(root.parts) - 1, 0) if folder.is_relative_to(root) else 0
    empty = None
    for position in reversed(range(first, len(parts))):
        name = parts[position].replace("images", "labels").replace("Images", "Labels")
        if name != parts[position]:
            labels = Path(*parts[:position], name, *parts[position + 1 :])
            if labels.is_dir():
                packed = next(filter(has_labels, _with_packed(labels)), None)
                if packed is not None:
                    return packed
                empty = empty or labels
    for position in reversed(range(first + 1, len(parts))):
        name, above = parts[position].lower(), Path(*parts[:position])
        others = LABEL_FOLDERS if name in IMAGE_FOLDERS else (name.replace("images", "labels"),)
        for beside in folders_named(above, others):
            labels = beside.joinpath(*parts[position + 1 :])
            if labels != folder and labels_of(folder, labels):
                return labels
    return empty


def _with_packed(labels: Path) -> Iterator[Path]:
    """Yield a folder, and those in it with its own name, as zip programs make them."""
    yield labels
    yield from folders_named(labels, (labels.name.lower(), *LABEL_FOLDERS))


def has_labels(folder: Path) -> bool:
    """Return whether a folder has text files that may be labels."""
    return any(not is_list_of_names(name) for name in files_in(folder, [".txt"]))


def _elsewhere(folder: Path, root: Path) -> Iterator[Path]:
    """Yield other folders with label files of the images, the likeliest first.

    The words of splits and batches in the path of the images stay, in their order, beside any
    folder of labels; the last of them may lack.
    """
    if not folder.is_relative_to(root) or not files_in(folder, SUFFIXES):
        return
    inside = folder.relative_to(root).parts
    words = [part for part in inside if part.lower() not in IMAGE_FOLDERS]
    for lacking in range(len(words) + 1):
        kept = words[: len(words) - lacking]
        for labels in dict.fromkeys(_places(root, inside, kept)):
            found = set(labels_of(folder, labels).values()) if labels != folder else set()
            if found and not (found & _taken_above(folder, labels, root)):
                yield labels


def _taken_above(folder: Path, labels: Path, root: Path) -> set[str]:
    """Return the label files of images in the folders around `folder` that own them."""
    around = [each for each in folder.parents if each.is_relative_to(root)]
    owners = [each for each in around if _counterpart(each, root) == labels]
    return {text for owner in owners for text in labels_of(owner, labels).values()}


def _places(root: Path, inside: Sequence[str], kept: Sequence[str]) -> Iterator[Path]:
    """Yield the folders of labels around the images whose other folders are called `kept`."""
    for depth in reversed(range(len(inside) + 1)):
        base = root.joinpath(*inside[:depth])
        above = [part for part in inside[:depth] if part.lower() not in IMAGE_FOLDERS]
        if list(kept[: len(above)]) != above:
            continue
        below = kept[len(above) :]
        for first in range(len(below) + 1):
            place = base.joinpath(*below[:first])
            for labels in (*folders_named(place, LABEL_FOLDERS), *_called_labels(place)):
                for packed in _with_packed(labels):
                    yield from _with_packed(packed.joinpath(*below[first:]))
        if below:
            yield from _named_with_word(base.joinpath(*below[:-1]), below[-1])
            yield base.joinpath(*below)  # train/ beside images/train/


def _called_labels(place: Path) -> list[Path]:
    """Return the only folder with the word labels in a longer name, as makesense.ai packs it."""
    found = [
        each
        for each in subfolders(place)
        if each.name.lower() not in LABEL_FOLDERS and split_in(each.name) is None
        if {"label", "labels"} & set(re.split("[^a-z]+", each.name.lower()))
    ]
    return found if len(found) == 1 else []


def _named_with_word(place: Path, name: str) -> Iterator[Path]:
    """Yield the folders called train_labels, labels-train and the like, for train."""
    usual = {
        f"{one}{between}{other}"
        for word, between in product(("label", "labels", *ANNOTATION_FOLDERS[:1]), ("_", "-", " "))
        for one, other in ((name.lower(), word), (word, name.lower()))
    }
    yield from (each for each in subfolders(place) if each.name.lower() in usual)


def require_one_owner(label_folders: Mapping[Path, Path], root: Path) -> None:
    """Raise DataError where one label file may be that of different images.

    That is so where images in several folders have the same name, and one folder has all labels.
    `label_folders` are the folders of labels by the folders of images of one split.
    """
    shared = {
        labels
        for folder, labels in label_folders.items()
        if labels != folder and _counterpart(folder, root) is None
    }
    if not shared:
        return
    owners: dict[Path, Path] = {}
    for folder in folders_below(root, root):
        if not files_in(folder, SUFFIXES):
            continue
        labels = label_folder(folder, root)
        found = labels_of(folder, labels) if labels in shared else {}
        for image, text in found.items():
            other = owners.setdefault(labels / text, folder / image)
            if other.parent != folder and not filecmp.cmp(other, folder / image, shallow=False):
                raise DataError(
                    f"{labels / text}: may be the labels of {other} or of {folder / image}, which "
                    "differ; divide the labels into folders as the images are"
                )
