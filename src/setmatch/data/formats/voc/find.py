"""Find Pascal VOC data sets: which folders hold XML files and images, and of which splits."""

import filecmp
from pathlib import Path

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES
from setmatch.data.formats.layout import (
    ANNOTATION_FOLDERS,
    IMAGE_FOLDERS,
    files_in,
    folders_below,
    folders_named,
    folders_of_splits,
    split_folders,
)
from setmatch.data.formats.voc.split import (
    TRAINVAL,
    VocSplit,
    files_by_stem,
    listed_stems,
    xml_files,
)
from setmatch.data.splits import canonical, split_in, split_of_list
from setmatch.errors import DataError

_INNER = ("xmls", "xml", "annotations", "voc")  # in a folder of annotations


def find_voc(path: Path) -> dict[str, SplitSource]:
    """Return the splits of Pascal VOC annotations in a folder; a file has none.

    Known layouts are Annotations/ with JPEGImages/ or images/, divided by ImageSets/Main/train.txt
    or train.txt, or by folders of either; with folders in them; annotations/xmls/, labels/ and the
    like; train/ and val/ with one of these inside, or with XML files beside the images; and XML
    files beside images alone.
    """
    splits = _splits(path)
    # Without their lists of names, because all XML files of the data set tell the class names.
    folders = tuple(dict.fromkeys(VocSplit(s.annotations, s.images) for s in splits.values()))
    listings = {
        place
        for each in folders
        for place in (*folders_below(each.annotations, each.annotations), *each.images)
    }
    name_files = [path / name for name in NAME_FILES]
    return {
        name: SplitSource(
            "voc",
            name,
            path,
            (*name_files, *([split.names] if split.names and split.names.is_file() else [])),
            tuple(sorted(listings)),
            details=(split, folders),
            root=path,
        )
        for name, split in splits.items()
    }


def _splits(root: Path) -> dict[str, VocSplit]:
    annotations = _annotations(root)
    if annotations is not None:
        return _divided(root, VocSplit(annotations, _image_folders(root, annotations)))
    splits: dict[str, VocSplit] = {}
    for annotations in _annotation_folders(root):
        images = _image_folders(root, annotations)
        for name, place in split_folders(annotations).items():
            if files_by_stem(place):
                inner = (split_folders(folder).get(name) for folder in images)
                of_split = (each for each in inner if each is not None)
                splits[name] = VocSplit(place, tuple(dict.fromkeys((*of_split, *images, place))))
        if splits:
            return splits
        if files_by_stem(annotations):  # in its folders
            return _divided(root, VocSplit(annotations, _image_folders(root, annotations)))
    for name, place in folders_of_splits(root):
        of_folder = _splits(place)
        if of_folder:
            splits.setdefault(name, next(iter(of_folder.values())))
    if not splits and xml_files(root):
        return {WHOLE: VocSplit(root, tuple(dict.fromkeys((root, *_image_folders(root, root)))))}
    return splits


def _annotations(root: Path) -> Path | None:
    """Return the folder with most XML files among those that may hold annotations.

    Raises DataError where two have as many and do not say the same.
    """
    names = {folder: xml_files(folder) for folder in _annotation_folders(root)}
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


def _divided(root: Path, whole: VocSplit) -> dict[str, VocSplit]:
    """Divide a data set by the lists of ImageSets/, by train.txt, or by its folders of images."""
    sets = root / "ImageSets"
    usual = sets / "Main" if (sets / "Main").is_dir() else sets
    names = _lists(usual) or _lists_beside(root, whole) or _lists_of_classes(usual, whole)
    names = names or _folders_of_images(whole)
    splits = {
        split: VocSplit(whole.annotations, whole.images, place) for split, place in names.items()
    }
    if TRAINVAL in splits and "train" not in splits:
        splits["train"] = splits[TRAINVAL]
    return splits or {WHOLE: whole}


def _lists(folder: Path) -> dict[str, Path]:
    """Return the text files that are named after splits."""
    found = {}
    for name in files_in(folder, [".txt"]):
        stem = Path(name).stem
        split = split_of_list(stem) or (stem if stem == TRAINVAL else None)
        if split is not None and (split not in found or canonical(stem)):
            found[split] = folder / name
    return found


def _lists_beside(root: Path, whole: VocSplit) -> dict[str, Path]:
    """Return the lists of splits in the data set's own folder that name XML files or images."""
    xml_files = files_by_stem(whole.annotations)
    return {split: file for split, file in _lists(root).items() if listed_stems(file, xml_files)}


def _lists_of_classes(folder: Path, whole: VocSplit) -> dict[str, Path]:
    """Return a list for each split where there are lists of its classes alone, as VoTT has them.

    Those are cat_train.txt, dog_train.txt and so on. Each must name the same images.
    """
    by_split: dict[str, list[Path]] = {}
    for name in files_in(folder, [".txt"]):
        if split := split_in(Path(name).stem):
            by_split.setdefault(split, []).append(folder / name)
    xml_files = files_by_stem(whole.annotations) if by_split else {}
    found = {}
    for split, files in by_split.items():
        first, *others = (listed_stems(file, xml_files) for file in files)
        if not first or any(other != first for other in others):
            return {}
        found[split] = files[0]
    return found


def _folders_of_images(whole: VocSplit) -> dict[str, Path]:
    """Return the folder of images of each split, where these divide nearly all annotations."""
    xml_files = files_by_stem(whole.annotations)
    for images in whole.images:
        folders = split_folders(images)
        stems = [listed_stems(folder, xml_files) for folder in folders.values()]
        once = sum(map(len, stems))
        if once and once == len(set().union(*stems)) and 10 * once >= 9 * len(xml_files):
            return folders
    return {}


def _annotation_folders(root: Path) -> list[Path]:
    """Return the folders that may hold the XML files, and those in them, as annotations/xmls."""
    beside = folders_named(root, ANNOTATION_FOLDERS)
    return [*beside, *(each for place in beside for each in folders_named(place, _INNER))]


def _image_folders(root: Path, annotations: Path) -> tuple[Path, ...]:
    return (*folders_named(root, IMAGE_FOLDERS), annotations, root)
