"""Which folders hold YOLO labels, and of which split; what a data.yaml or obj.data says of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from setmatch.data.dataset import DetectionDataset
from setmatch.data.formats.base import WHOLE, SplitSource
from setmatch.data.formats.class_names import NAME_FILES, names_in, read_names
from setmatch.data.formats.columns import short
from setmatch.data.formats.layout import relocate_path
from setmatch.data.formats.yolo.read import read_yolo
from setmatch.data.image_paths import SUFFIXES
from setmatch.data.splits import canonical, files_in, split_folders, subfolders
from setmatch.errors import DataError


def find_yolo(folder: Path) -> dict[str, SplitSource]:
    """Return the splits of YOLO labels in a folder.

    Known are a data.yaml (or another YAML file with `names` and `train`), darknet's obj.data,
    images/train with labels/train, train/images with train/labels, text files beside the images,
    and images/ with labels/; the last two may be divided by lists of images, train.txt and val.txt.
    Raises DataError for a YAML file that is none.
    """
    for name in files_in(folder, [".yaml", ".yml", ".data"]):
        tree = _tree(folder / name)
        if isinstance(tree, dict) and "names" in tree and ({"train", "val"} & set(tree)):
            return yolo_parts(folder / name)
    splits = _bare(folder)
    places = _places_of_names(folder, splits.values())
    names = [place / name for place in places for name in NAME_FILES]
    return {
        split: _part(folder, split, (source,), names, partial(_names_beside, places))
        for split, source in splits.items()
    }


def yolo_parts(config: Path) -> dict[str, SplitSource]:
    """Return the splits that a data.yaml or obj.data names.

    One that leads nowhere is found, but cannot be read: a lost test split keeps nobody from
    training. Raises DataError for a file that is none, or that leads from two splits to one place.
    """
    tree = _tree(config)
    if not isinstance(tree, dict) or "names" not in tree:
        raise DataError(f"{config}: no 'names' of classes; a YOLO data.yaml should list them")
    names = _names(config, tree)
    parts: dict[str, SplitSource] = {}
    given: dict[tuple[Path, ...], tuple[str, list[str]]] = {}
    for key, value in tree.items():
        split = canonical(key) if isinstance(key, str) else None
        if split is None or not value:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise DataError(
                f"{config}: '{key}' is {short(value)}; it should be a folder or a list of them"
            )
        try:
            sources = tuple(_place(config, tree, key, each) for each in values)
        except DataError as error:
            parts[split] = SplitSource(
                "yolo", split, config.parent, partial(_refuse, error), (config,)
            )
            continue
        other, named = given.setdefault(sources, (key, values))
        if named != values:
            places = ", ".join(map(str, sources))
            raise DataError(
                f"{config}: '{other}' is {short(named)} and '{key}' is {short(values)}, but both "
                f"lead to {places}; correct the paths"
            )
        parts[split] = _part(config.parent, split, sources, [config], partial(list, names))
    return parts


def _refuse(error: DataError) -> NoReturn:
    raise error


def _part(
    root: Path, split: str, sources: tuple[Path, ...], names: list[Path], known: Any
) -> SplitSource:
    folders = [source for source in sources if source.is_dir()]
    inside = {place for folder in folders for place in (folder, *_below(folder))}
    listings = inside | {_label_folder(place) for place in inside}
    files = [source for source in sources if not source.is_dir()]
    read = partial(_read, root, sources, known)
    return SplitSource("yolo", split, root, read, (*names, *files), tuple(sorted(listings)))


def _read(root: Path, sources: tuple[Path, ...], known: Any) -> DetectionDataset:
    images = [image for source in sources for image in _images(source)]
    beside = {folder: _label_folder(folder) for folder in {image.parent for image in images}}
    # As they are spelled: a.TXT is no other file than a.txt for whoever wrote it.
    there = {
        folder: {Path(name).stem: name for name in files_in(folder, [".txt"])}
        for folder in set(beside.values())
    }
    labels = []
    for image in images:
        folder = beside[image.parent]
        labels.append(folder / there[folder].get(image.stem, f"{image.stem}.txt"))
    return read_yolo(root, images, labels, known())


def _places_of_names(folder: Path, sources: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders in which a classes.txt may be: those of the labels, and those above."""
    labels = [_label_folder(source) for source in sources if source.is_dir()]
    usual = (folder, folder / "labels", folder / "images")
    return tuple(dict.fromkeys((*usual, *(label.parent for label in labels), *labels)))


def _names_beside(places: Sequence[Path]) -> list[str] | None:
    """Return the names of a classes.txt; of several, of which one goes on, the longest.

    Raises DataError where two number the classes differently: LabelImg writes one in each folder.
    """
    found = [(place, names) for place in places if (names := read_names(place))]
    if not found:
        return None
    longest, most = max(found, key=lambda each: len(each[1]))
    for place, names in found:
        if names != most[: len(names)]:
            raise DataError(
                f"{place}: its list of classes is {short(names)}, that of {longest} is "
                f"{short(most)}; number the classes alike, or remove the list that is wrong"
            )
    return most


def _bare(folder: Path) -> dict[str, Path]:
    """Return where the images of each split are, for a folder without a data.yaml."""
    images, labels = folder / "images", folder / "labels"
    splits: dict[str, Path] = {}
    if images.is_dir() and labels.is_dir():
        inside = split_folders(images).items()
        splits = {split: at for split, at in inside if files_in(labels / at.name, [".txt"])}
    for split, place in split_folders(folder).items():
        if split not in splits and files_in(place / "labels", [".txt"]):
            splits[split] = place / "images"
        elif split not in splits and _has_pairs(place):
            splits[split] = place
    if splits:
        return splits
    if images.is_dir() and files_in(labels, [".txt"]):
        return _lists(folder) or {WHOLE: images}
    return _lists(folder) or {WHOLE: folder} if _has_pairs(folder) else {}


def _lists(folder: Path) -> dict[str, Path]:
    """Return the text files that are named like splits and list images."""
    found: dict[str, Path] = {}
    for name in files_in(folder, [".txt"]):
        split = canonical(Path(name).stem)
        if split is not None and any(path.is_file() for path in _images(folder / name)[:1]):
            found[split] = folder / name
    return found


def _has_pairs(folder: Path) -> bool:
    labels = files_in(folder, [".txt"])  # first, since most folders have none
    stems = {Path(name).stem for name in files_in(folder, SUFFIXES)} if labels else set()
    return any(Path(name).stem in stems for name in labels)


def _images(source: Path) -> list[Path]:
    if source.is_dir():
        places = (source, *_below(source))
        return [place / name for place in places for name in files_in(place, SUFFIXES)]
    try:
        lines = source.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{source}: cannot be read as a list of images ({error}); name a text file, saved as "
            "UTF-8"
        ) from None
    listed = [line.strip() for line in lines if line.strip() and "\0" not in line]
    return [_now(source.parent, line, Path.is_file) for line in listed]


def _now(folder: Path, given: str, there: Callable[[Path], bool]) -> Path:
    """Return where a given path is now, or would be, were it anywhere."""
    return next(filter(there, relocate_path(folder, given)), folder / given)


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
    if not isinstance(base, str):
        raise DataError(f"{config}: 'path' is {short(base)}; it should be a folder")
    if "\0" in base + value:
        raise DataError(f"{config}: '{key}' is {short(value)}; a path should have no zero byte")
    place = next(filter(Path.exists, _tried(config.parent, base, value)), None)
    if place is None:
        shown = ", ".join(dict.fromkeys(map(str, _tried(config.parent, base, value))))
        raise DataError(
            f"{config}: '{key}' is {value!r}, but none of {shown} exists; correct the path"
        )
    return place


def _tried(here: Path, base: str, value: str) -> Iterator[Path]:
    yield here / base / value
    yield from relocate_path(here, value)


def _names(config: Path, tree: dict[Any, Any]) -> list[str]:
    names = tree["names"]
    if config.suffix == ".data":
        names = names_in(_place(config, tree, "names", str(names)))
    if isinstance(names, dict):
        keys = list(names)
        if sorted(keys, key=str) != sorted(range(len(keys)), key=str):
            raise DataError(
                f"{config}: 'names' has the keys {short(keys)}; they should be 0, 1, 2, ..."
            )
        names = [names[class_index] for class_index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{config}: 'names' is {short(names)}; it should be a list of class names")
    # YAML reads the class name 7 as a number, which is no harm, and the name no as False.
    for name in names:
        if type(name) not in (str, int) or not str(name).strip():
            raise DataError(f"{config}: 'names' has {short(name)}; write class names in quotes")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{config}: 'names' has {short(repeated)} twice; name classes apart")
    if "nc" in tree and tree["nc"] != len(names):
        raise DataError(
            f"{config}: 'nc' is {short(tree['nc'])}, but 'names' has {len(names)}; make them agree"
        )
    return [str(name) for name in names]


def _tree(config: Path) -> Any:
    try:
        text = config.read_text(encoding="utf-8-sig")
        if config.suffix == ".data":
            pairs = (line.partition("=") for line in text.splitlines())
            return {key.strip(): value.strip() for key, _, value in pairs}
        return yaml.safe_load(text)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{config}: cannot be read ({reason}); name a file that can be") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{config}: cannot be read as YAML ({reason}); correct it") from None
