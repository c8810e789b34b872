"""Find Pascal VOC data sets: which folders hold XML files and images, and of which splits."""

import filecmp
from pathlib import Path

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES
from setmatch.data.formats.layout import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    files_in,
    folders_named,
    folders_of_splits,
    split_folders,
)
from setmatch.data.formats.voc.read import VocSplit
from setmatch.data.splits import canonical
from setmatch.errors import DataError

_INNER = ("xmls", "xml", "annotations", "voc")  # in a folder of annotations


def find_voc(path: Path) -> dict[str, SplitSource]:
    """Return the splits of Pascal VOC annotations in a folder; a file has none.

    Known layouts are Annotations/ with JPEGImages/ or images/, divided by ImageSets/Main/train.txt
    or by folders; annotations/xmls/, labels/ and the like; train/ and val/ with one of these
    inside, or with XML files beside the images; and XML files beside images alone.
    """
    splits = _splits(path)
    # Without their lists of names, because all XML files of the data set tell the class names.
    folders = tuple(dict.fromkeys(VocSplit(s.annotations, s.images) for s in splits.values()))
    listings = {place for each in folders for place in (each.annotations, *each.images)}
    name_files = [path / name for name in NAME_FILES]
    return {
        name: SplitSource(
            "voc",
            name,
            path,
            (*name_files, *([] if split.names is None else [split.names])),
            tuple(sorted(listings)),
            details=(split, folders),
            root=path,
        )
        for name, split in splits.items()
    }


def _splits(root: Path) -> dict[str, VocSplit]:
    annotations = _annotations(root)
    if annotations is not None:
        return _by_lists(root, VocSplit(annotations, _image_folders(root, annotations)))
    splits: dict[str, VocSplit] = {}
    for annotations in _annotation_folders(root):
        images = _image_folders(root, annotations)
        for name, place in split_folders(annotations).items():
            if files_in(place, [".xml"]):
                inner = (split_folders(folder).get(name) for folder in images)
                of_split = (each for each in inner if each is not None)
                splits[name] = VocSplit(place, tuple(dict.fromkeys((*of_split, *images, place))))
        if splits:
            return splits
    for name, place in folders_of_splits(root):
        of_folder = _splits(place)
        if of_folder:
            splits.setdefault(name, next(iter(of_folder.values())))
    if not splits and files_in(root, [".xml"]):
        return {WHOLE: VocSplit(root, tuple(dict.fromkeys((root, *_image_folders(root, root)))))}
    return splits


def _annotations(root: Path) -> Path | None:
    """Return the folder with most XML files among those that may hold annotations.

    Raises DataError where two have as many and do not say the same.
    """
    names = {folder: files_in(folder, [".xml"]) for folder in _annotation_folders(root)}
    most = max(map(len, names.values()), default=0)
    if not most:
        return None
    first, *others = (folder for folder, inside in names.items() if len(inside) == most)
    for other in others:
        same, *_ = filecmp.cmpfiles(first, other, names[first], shallow=False)
        if same != names[first]:
            raise DataError(
                f"{first} and {other} hold different XML files; move one of them out of {root}"
            )
    return first


def _by_lists(root: Path, whole: VocSplit) -> dict[str, VocSplit]:
    """Divide a data set by the lists of ImageSets/, if there are any."""
    lists = root / "ImageSets" / "Main"
    lists = lists if lists.is_dir() else root / "ImageSets"
    splits = {}
    for name in files_in(lists, [".txt"]):
        stem = Path(name).stem
        split = canonical(stem) or (stem if stem == "trainval" else None)
        if split is not None:
            splits[split] = VocSplit(whole.annotations, whole.images, lists / name)
    if not splits:
        return {WHOLE: whole}
    if "trainval" in splits and "train" not in splits:
        splits["train"] = splits["trainval"]
    return splits


def _annotation_folders(root: Path) -> list[Path]:
    """Return the folders that may hold the XML files, and those in them, as annotations/xmls."""
    beside = folders_named(root, ANNOTATION_FOLDERS)
    return [*beside, *(each for place in beside for each in folders_named(place, _INNER))]


def _image_folders(root: Path, annotations: Path) -> tuple[Path, ...]:
    return (*folders_named(root, IMAGE_FOLDERS), annotations, root)
