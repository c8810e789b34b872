"""Which folders hold Pascal VOC annotations, and of which split."""

from functools import partial
from pathlib import Path

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES
from setmatch.data.formats.voc.read import VocSplit, read_voc
from setmatch.data.splits import canonical, entries, files_in, split_folders

_ANNOTATIONS = ("annotations", "annots", "xmls", "xml", "labels")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img")


def find_voc(folder: Path) -> dict[str, SplitSource]:
    """Return the splits of Pascal VOC annotations in a folder.

    Known are Annotations/ with JPEGImages/ or images/, divided by ImageSets/Main/train.txt or by
    folders, train/ and val/ with either of these inside or XML files beside the images, and XML
    files beside the images alone.
    """
    splits = _splits(folder)
    everywhere = tuple(dict.fromkeys(VocSplit(s.annotations, s.images) for s in splits.values()))
    listings = {place for each in everywhere for place in (each.annotations, *each.images)}
    files = [folder / name for name in NAME_FILES]
    return {
        name: SplitSource(
            "voc",
            name,
            folder,
            partial(read_voc, split, folder, everywhere),
            (*files, *([] if split.names is None else [split.names])),
            tuple(sorted(listings)),
        )
        for name, split in splits.items()
    }


def _splits(root: Path) -> dict[str, VocSplit]:
    inside = _named(root, _ANNOTATIONS)
    if inside is not None:
        images = _image_folders(root, inside)
        if files_in(inside, [".xml"]):
            return _by_lists(root, VocSplit(inside, images))
        splits = {}
        for name, place in split_folders(inside).items():
            if files_in(place, [".xml"]):
                there = tuple(folder / place.name for folder in images)
                splits[name] = VocSplit(place, (*filter(Path.is_dir, there), *images, place))
        if splits:
            return splits
    splits = {}
    for name, place in split_folders(root).items():
        inner = _splits(place)
        if inner:
            splits[name] = next(iter(inner.values()))
    if not splits and files_in(root, [".xml"]):
        return {WHOLE: VocSplit(root, (root, *_image_folders(root, root)))}
    return splits


def _by_lists(root: Path, whole: VocSplit) -> dict[str, VocSplit]:
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


def _image_folders(root: Path, annotations: Path) -> tuple[Path, ...]:
    usual = _named(root, _IMAGES)
    return (annotations, root) if usual is None else (usual, annotations, root)


def _named(root: Path, names: tuple[str, ...]) -> Path | None:
    """Return the folder in `root` with one of these names, in whatever case."""
    found = {name.lower(): root / name for name, is_folder in entries(root) if is_folder}
    return next((found[name] for name in names if name in found), None)
