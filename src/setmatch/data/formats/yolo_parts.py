"""Which folders hold YOLO labels, and of which split; what a data.yaml says about it."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from setmatch.data.folders import canonical, files_in, split_folders, subfolders
from setmatch.data.formats.class_names import NAME_FILES, read_names
from setmatch.data.formats.columns import short
from setmatch.data.formats.yolo import read_yolo
from setmatch.data.index import Index
from setmatch.data.parts import WHOLE, Part
from setmatch.data.pictures import SUFFIXES
from setmatch.errors import DataError


@dataclass(frozen=True)
class YoloSplit:
    """Where a split's images are: folders, with all below them, or text files that list them."""

    sources: tuple[Path, ...]


def find_yolo(folder: Path) -> dict[str, Part]:
    """Return the splits of YOLO labels in a folder.

    Known are a data.yaml (or another YAML file with `names` and `train`), images/train with
    labels/train, train/images with train/labels, images/ with labels/, and text files beside the
    images. Raises DataError for a YAML file that is none, or leads to no images.
    """
    for name in files_in(folder, [".yaml", ".yml"]):
        tree = _tree(folder / name)
        if isinstance(tree, dict) and "names" in tree and ({"train", "val"} & set(tree)):
            return yolo_parts(folder / name)
    names = [folder / name for name in NAME_FILES]
    splits = _bare(folder)
    return {
        split: _part(folder, split, sources, names, partial(_names_beside, folder))
        for split, sources in splits.items()
    }


def yolo_parts(config: Path) -> dict[str, Part]:
    """Return the splits that a data.yaml names; raises DataError where it leads to no images."""
    tree = _tree(config)
    if not isinstance(tree, dict) or "names" not in tree:
        raise DataError(f"{config}: no 'names' of classes, so this is no YOLO data.yaml")
    names = _names(config, tree)
    parts = {}
    for key, value in tree.items():
        split = canonical(key) if isinstance(key, str) else None
        if split is None or not value:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise DataError(f"{config}: '{key}' is {short(value)}, not a folder or a list of them")
        sources = tuple(_place(config, tree, key, each) for each in values)
        parts[split] = _part(config.parent, split, sources, [config], partial(list, names))
    return parts


def _part(root: Path, split: str, sources: tuple[Path, ...], names: list[Path], known: Any) -> Part:
    folders = [source for source in sources if source.is_dir()]
    inside = {place for folder in folders for place in (folder, *_below(folder))}
    listings = inside | {_label_folder(place) for place in inside}
    files = [source for source in sources if not source.is_dir()]
    read = partial(_read, root, sources, known)
    return Part("yolo", split, root, read, (*names, *files), tuple(sorted(listings)))


def _read(root: Path, sources: tuple[Path, ...], known: Any) -> Index:
    images = [image for source in sources for image in _images(source)]
    folders = {folder: _label_folder(folder) for folder in {image.parent for image in images}}
    labels = [folders[image.parent] / f"{image.stem}.txt" for image in images]
    return read_yolo(root, images, labels, known())


def _names_beside(folder: Path) -> list[str] | None:
    places = (folder, folder / "labels", *split_folders(folder).values())
    return next((names for place in places if (names := read_names(place))), None)


def _bare(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Return where the images of each split are, for a folder without a data.yaml."""
    images, labels = folder / "images", folder / "labels"
    splits: dict[str, tuple[Path, ...]] = {}
    if images.is_dir() and labels.is_dir():
        for split, place in split_folders(images).items():
            if files_in(labels / place.name, [".txt"]):
                splits[split] = (place,)
        if not splits and files_in(labels, [".txt"]):
            return {WHOLE: (images,)}
    for split, place in split_folders(folder).items():
        if split not in splits and files_in(place / "labels", [".txt"]):
            splits[split] = (place / "images",)
        elif split not in splits and _has_pairs(place):
            splits[split] = (place,)
    if not splits and _has_pairs(folder):
        return {WHOLE: (folder,)}
    return splits


def _has_pairs(folder: Path) -> bool:
    stems = {Path(name).stem for name in files_in(folder, SUFFIXES)}
    return any(Path(name).stem in stems for name in files_in(folder, [".txt"]))


def _images(source: Path) -> list[Path]:
    if source.is_dir():
        places = (source, *_below(source))
        return [place / name for place in places for name in files_in(place, SUFFIXES)]
    try:
        lines = source.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{source}: cannot be read as a list of images ({error})") from None
    return [source.parent / line.strip() for line in lines if line.strip() and "\0" not in line]


def _below(folder: Path) -> list[Path]:
    return [each for inner in subfolders(folder) for each in (inner, *_below(inner))]


def _label_folder(folder: Path) -> Path:
    """Return where the labels of a folder's images are: labels/ for images/, or beside them."""
    parts = list(folder.parts)
    for position in reversed(range(len(parts))):
        if parts[position] == "images":
            there = Path(*parts[:position], "labels", *parts[position + 1 :])
            if there.is_dir():
                return there
    return folder


def _place(config: Path, tree: dict[Any, Any], key: str, value: str) -> Path:
    """Return the folder or list that a data.yaml means, where files are rather than were."""
    base = tree.get("path") or "."
    if not isinstance(base, str) or "\0" in base + value:
        raise DataError(f"{config}: 'path' is {short(base)}, not a folder")
    here = config.parent
    # Roboflow writes ../train/images for train/images beside the file.
    inner = value.lstrip("./")
    tried = [here / base / value, here / value, here / inner]
    for place in tried:
        if place.exists():
            return place
    shown = ", ".join(map(str, dict.fromkeys(tried)))
    raise DataError(f"{config}: '{key}' is {value!r}, but none of {shown} exists; correct the path")


def _names(config: Path, tree: dict[Any, Any]) -> list[str]:
    names = tree["names"]
    if isinstance(names, dict):
        keys = list(names)
        if sorted(keys, key=str) != sorted(range(len(keys)), key=str):
            raise DataError(f"{config}: 'names' has the keys {short(keys)}, not 0, 1, 2, ...")
        names = [names[slot] for slot in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{config}: 'names' is {short(names)}, not a list of class names")
    # YAML reads the class name 7 as a number, which is no harm, and the name no as False.
    for name in names:
        if type(name) not in (str, int) or not str(name).strip():
            raise DataError(f"{config}: 'names' has {short(name)}; write class names in quotes")
    if "nc" in tree and tree["nc"] != len(names):
        raise DataError(f"{config}: 'nc' is {short(tree['nc'])}, but 'names' has {len(names)}")
    return [str(name) for name in names]


def _tree(config: Path) -> Any:
    try:
        return yaml.safe_load(config.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{config}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{config}: cannot be read as YAML ({reason})") from None
