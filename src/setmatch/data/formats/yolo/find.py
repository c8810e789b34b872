"""Find YOLO data sets: which folders hold images and labels, and of which splits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES, read_names
from setmatch.data.formats.layout import files_in, relocate_path, split_folders, subfolders
from setmatch.data.formats.yolo.data_yaml import SUFFIXES as YAML_SUFFIXES
from setmatch.data.formats.yolo.data_yaml import is_data_yaml, read_data_yaml
from setmatch.data.formats.yolo.read import read_yolo
from setmatch.data.image_paths import SUFFIXES
from setmatch.data.splits import canonical
from setmatch.errors import DataError, short
from setmatch.reading import read_text


@dataclass(frozen=True)
class YoloSplit:
    """Where a split's images are, and where its class names are."""

    sources: tuple[Path, ...]  # folders of images, or text files that list images
    names: tuple[str, ...] | None  # from a data.yaml
    name_folders: tuple[Path, ...] = ()  # folders that may hold a classes.txt instead
    keypoints: tuple[int, int] | None = None  # kpt_shape of a data.yaml


def find_yolo(path: Path) -> dict[str, SplitSource]:
    """Return the splits of YOLO labels in a folder, or those that a data.yaml names.

    Known layouts are a data.yaml (or another YAML file with `names` and `train`), darknet's
    obj.data, images/train with labels/train, train/images with train/labels, text files beside the
    images, and images/ with labels/. The last two may be divided by lists of images, train.txt and
    val.txt. Raises DataError for YAML that is broken or contradicts itself.
    """
    if path.is_file():
        return _from_data_yaml(path) if path.suffix.lower() in YAML_SUFFIXES else {}
    for name in files_in(path, YAML_SUFFIXES):
        if is_data_yaml(path / name):
            return _from_data_yaml(path / name)
    splits = _from_folders(path)
    folders = _name_folders(path, splits.values())
    name_files = [folder / name for folder in folders for name in NAME_FILES]
    return {
        split: _split_source(path, split, YoloSplit((source,), None, folders), name_files)
        for split, source in splits.items()
    }


def read_split(split: SplitSource) -> DetectionDataset:
    """Read a split that `find_yolo` found; raises DataError as `read_yolo` does."""
    if isinstance(split.details, DataError):
        raise split.details
    here: YoloSplit = split.details
    images = [image for source in here.sources for image in _images(source)]
    label_folders = {folder: _label_folder(folder) for folder in {i.parent for i in images}}
    # Names as they are spelled on disk, because a label file may be called a.TXT.
    names_by_stem = {
        folder: {Path(name).stem: name for name in files_in(folder, [".txt"])}
        for folder in set(label_folders.values())
    }
    labels = []
    for image in images:
        folder = label_folders[image.parent]
        labels.append(folder / names_by_stem[folder].get(image.stem, f"{image.stem}.txt"))
    names = here.names or _names_in(here.name_folders)
    return read_yolo(split.source, images, labels, names, here.keypoints, split.boxes)


def _from_data_yaml(file: Path) -> dict[str, SplitSource]:
    config = read_data_yaml(file)
    found = {}
    for split, sources in config.splits.items():
        if isinstance(sources, DataError):
            found[split] = SplitSource("yolo", split, file.parent, (file,), details=sources)
        else:
            details = YoloSplit(sources, config.names, keypoints=config.keypoints)
            found[split] = _split_source(file.parent, split, details, [file])
    return found


def _split_source(
    root: Path, split: str, details: YoloSplit, name_files: list[Path]
) -> SplitSource:
    folders = [source for source in details.sources if source.is_dir()]
    image_folders = {place for folder in folders for place in (folder, *_all_below(folder))}
    listings = image_folders | {_label_folder(place) for place in image_folders}
    lists = [source for source in details.sources if not source.is_dir()]
    files = (*name_files, *lists)
    return SplitSource("yolo", split, root, files, tuple(sorted(listings)), details=details)


def _name_folders(folder: Path, sources: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders that may hold a classes.txt: those of the labels, and those above."""
    labels = [_label_folder(source) for source in sources if source.is_dir()]
    usual = (folder, folder / "labels", folder / "images")
    return tuple(dict.fromkeys((*usual, *(label.parent for label in labels), *labels)))


def _names_in(folders: Sequence[Path]) -> list[str] | None:
    """Return the class names of the longest classes.txt; None where there is none.

    Shorter lists must be its beginning. Raises DataError where two lists number the classes
    differently: LabelImg writes one into each folder.
    """
    found = [(folder, names) for folder in folders if (names := read_names(folder))]
    if not found:
        return None
    longest_folder, longest = max(found, key=lambda each: len(each[1]))
    for folder, names in found:
        if names != longest[: len(names)]:
            raise DataError(
                f"{folder}: its list of classes is {short(names)}, that of {longest_folder} is "
                f"{short(longest)}; number the classes alike, or remove the wrong list"
            )
    return longest


def _from_folders(folder: Path) -> dict[str, Path]:
    """Return the images of each split (a folder or a list), for a folder without a data.yaml."""
    images, labels = folder / "images", folder / "labels"
    splits: dict[str, Path] = {}
    if images.is_dir() and labels.is_dir():
        inside = split_folders(images).items()
        splits = {
            split: place for split, place in inside if files_in(labels / place.name, [".txt"])
        }
    for split, place in split_folders(folder).items():
        if split not in splits and files_in(place / "labels", [".txt"]):
            splits[split] = place / "images"
        elif split not in splits and _has_labeled_images(place):
            splits[split] = place
    if splits:
        return splits
    if images.is_dir() and files_in(labels, [".txt"]):
        return _image_lists(folder) or {WHOLE: images}
    return _image_lists(folder) or {WHOLE: folder} if _has_labeled_images(folder) else {}


def _image_lists(folder: Path) -> dict[str, Path]:
    """Return the text files that are named after splits and list images."""
    found: dict[str, Path] = {}
    for name in files_in(folder, [".txt"]):
        split = canonical(Path(name).stem)
        if split is not None and any(path.is_file() for path in _images(folder / name)[:1]):
            found[split] = folder / name
    return found


def _has_labeled_images(folder: Path) -> bool:
    """Return whether a folder holds an image and a text file of the same name."""
    labels = files_in(folder, [".txt"])  # first, since most folders have none
    stems = {Path(name).stem for name in files_in(folder, SUFFIXES)} if labels else set()
    return any(Path(name).stem in stems for name in labels)


def _images(source: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, or those that a text file lists."""
    if source.is_dir():
        places = (source, *_all_below(source))
        return [place / name for place in places for name in files_in(place, SUFFIXES)]
    try:
        lines = read_text(source, "utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source}: cannot be read as a list of images ({error}); name a text file, saved as "
            "UTF-8"
        ) from None
    listed = [line.strip() for line in lines if line.strip() and "\0" not in line]
    return [_located(source.parent, line) for line in listed]


def _located(folder: Path, written: str) -> Path:
    """Return where an image of a list is now; the path as written if it is nowhere."""
    return next(filter(Path.is_file, relocate_path(folder, written)), folder / written)


def _all_below(folder: Path) -> list[Path]:
    return [each for inner in subfolders(folder) for each in (inner, *_all_below(inner))]


def _label_folder(folder: Path) -> Path:
    """Return the folder of the labels: labels/ in the place of images/, or the images' own."""
    parts = list(folder.parts)
    for position in reversed(range(len(parts))):
        if parts[position] == "images":
            labels = Path(*parts[:position], "labels", *parts[position + 1 :])
            if labels.is_dir():
                return labels
    return folder
