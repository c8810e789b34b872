"""Find Pascal VOC data sets: which folders hold XML files and images, and of which splits."""

from pathlib import Path

from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES
from setmatch.data.formats.layout import entries, files_in, split_folders
from setmatch.data.formats.voc.read import VocSplit
from setmatch.data.splits import canonical

_ANNOTATIONS = ("annotations", "annots", "xmls", "xml", "labels")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img")


def find_voc(path: Path) -> dict[str, SplitSource]:
    """Return the splits of Pascal VOC annotations in a folder; a file has none.

    Known layouts are Annotations/ with JPEGImages/ or images/, divided by ImageSets/Main/train.txt
    or by folders; train/ and val/ with either of these inside, or with XML files beside the images;
    and XML files beside images alone.
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
        )
        for name, split in splits.items()
    }


def _splits(root: Path) -> dict[str, VocSplit]:
    annotations = _folder_named(root, _ANNOTATIONS)
    if annotations is not None:
        images = _image_folders(root, annotations)
        if files_in(annotations, [".xml"]):
            return _by_lists(root, VocSplit(annotations, images))
        splits = {}
        for name, place in split_folders(annotations).items():
            if files_in(place, [".xml"]):
                inner = tuple(folder / place.name for folder in images)
                splits[name] = VocSplit(place, (*filter(Path.is_dir, inner), *images, place))
        if splits:
            return splits
    splits = {}
    for name, place in split_folders(root).items():
        of_folder = _splits(place)
        if of_folder:
            splits[name] = next(iter(of_folder.values()))
    if not splits and files_in(root, [".xml"]):
        return {WHOLE: VocSplit(root, (root, *_image_folders(root, root)))}
    return splits


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


def _image_folders(root: Path, annotations: Path) -> tuple[Path, ...]:
    usual = _folder_named(root, _IMAGES)
    return (annotations, root) if usual is None else (usual, annotations, root)


def _folder_named(root: Path, names: tuple[str, ...]) -> Path | None:
    """Return the folder in `root` with one of these names, in any case."""
    found = {name.lower(): root / name for name, is_folder in entries(root) if is_folder}
    return next((found[name] for name in names if name in found), None)
