"""Read a YOLO data.yaml, or darknet's obj.data: the class names, and the images of each split."""

import os
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from setmatch.data.formats.base import LostSplitError
from setmatch.data.formats.class_names import clean_name, names_in
from setmatch.data.formats.layout import existing_path
from setmatch.data.formats.written_paths import written_parts
from setmatch.data.splits import canonical
from setmatch.errors import DataError, short
from setmatch.files.reading import read_text
from setmatch.files.safe_yaml import YamlError, parse_yaml

SUFFIXES = (".yaml", ".yml", ".data")
# Folders of a data set in which Darknet's .data files lie, in small letters.
DARKNET_FOLDERS = ("cfg", "config", "configs", "data")
_MAX_CHARACTERS = 300  # of a path in a message
_MAX_NAMES = 8  # in an error message


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says. A split whose path leads nowhere is a DataError, to be raised late.

    A lost test split keeps nobody from training. `moved` are the paths that are not as written,
    each with the place that was found for it.
    """

    file: Path
    root: Path  # outside of which nothing is opened
    names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...] | DataError]  # folders of images, or lists of image files
    keypoints: tuple[int, int] | None = None  # kpt_shape: how many, and the numbers of each
    moved: tuple[str, ...] = ()
    first_class: int = 0  # 1 where the file numbers its classes so: names: {1: cat, 2: dog}

    @property
    def found(self) -> int:
        """How many splits lead somewhere."""
        return sum(not isinstance(sources, DataError) for sources in self.splits.values())


def read_data_yaml(file: Path, root: Path | None = None) -> DataYaml:
    """Read a data.yaml or obj.data; raises DataError with the file, the key and the value.

    Only paths inside `root` are read. If it is None, the user named the file itself, and its paths
    may lead anywhere.
    """
    tree = _tree(file)
    if not isinstance(tree, dict) or "names" not in tree:
        raise DataError(f"{file}: no 'names'; a YOLO data.yaml should list the class names")
    places = _Places.of(file, tree, root)
    names = _names(places, tree)
    splits: dict[str, tuple[Path, ...] | DataError] = {}
    used: dict[tuple[Path, ...], tuple[str, list[str]]] = {}
    for key, value in tree.items():
        split = canonical(key) if isinstance(key, str) else None
        names_metric = file.suffix == ".data" and key == "eval"  # as in eval=coco
        if split is None or not value or names_metric:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise DataError(
                f"{file}: '{key}' is {short(value)}; it should be a folder or a list of folders"
            )
        try:
            sources = tuple(places.find(key, each) for each in values)
        except DataError as error:
            splits[split] = error
            continue
        other, other_values = used.setdefault(sources, (key, values))
        if other_values != values:
            shown = ", ".join(map(str, sources))
            raise DataError(
                f"{file}: '{other}' is {short(other_values)} and '{key}' is {short(values)}, but "
                f"both lead to {shown}; correct the paths"
            )
        if splits.get(split, sources) != sources:
            raise DataError(f"{file}: {short(key)} gives the split {split!r} again; remove one")
        splits[split] = sources
    return DataYaml(
        file,
        places.root,
        tuple(names),
        splits,
        _keypoints(file, tree.get("kpt_shape")),
        tuple(places.moved),
        _first_class(tree["names"]),
    )


def _keypoints(file: Path, value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    match value:
        case [int(count), int(numbers)] if count > 0 and numbers in (2, 3):
            return count, numbers
    raise DataError(
        f"{file}: 'kpt_shape' is {short(value)}; it should be the number of keypoints, and 2 or 3 "
        "numbers for each, such as [17, 3]"
    )


def is_data_yaml(file: Path) -> bool:
    """Return whether a YAML file has names and paths; raises DataError for broken YAML."""
    tree = _tree(file)
    if not isinstance(tree, dict) or "names" not in tree:
        return False
    return any(tree.get(key) for key in ("train", "val"))


def names_alone(file: Path) -> list[str] | None:
    """Return the class names of a YAML file that has these and no paths of splits, or None."""
    try:
        tree = _tree(file)
        if not isinstance(tree, dict) or "names" not in tree or file.suffix == ".data":
            return None
        if any(isinstance(key, str) and canonical(key) and value for key, value in tree.items()):
            return None
        return None if _first_class(tree["names"]) else _names(_Places.of(file, tree, None), tree)
    except DataError:
        return None


@dataclass(frozen=True)
class _Places:
    """The places that the paths of a data.yaml may lead to."""

    file: Path
    root: Path
    base: str  # its key "path"
    free: bool  # True where paths may lead anywhere
    moved: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, file: Path, tree: dict[Any, Any], root: Path | None) -> "_Places":
        base = tree.get("path") or "."
        if not isinstance(base, str):
            raise DataError(f"{file}: 'path' is {short(base)}; it should be a folder")
        if "\0" in base:
            raise DataError(f"{file}: 'path' is {short(base)}; a path cannot contain a zero byte")
        free = root is None
        if root is None:
            here = file.parent.parent if _is_in_darknet_folder(file) else file.parent
            root = here / base if _is_dir(here / base) else here
        return cls(file, root, base, free)

    def find(self, key: str, value: str) -> Path:
        """Return the folder or file that a path means, even if the data set has moved since."""
        if "\0" in value:
            raise DataError(
                f"{self.file}: '{key}' is {short(value)}; a path cannot contain a zero byte"
            )
        here = self.file.parent
        written = here / self.base / value
        if self.free and self.base != "." and _exists(written):
            return written
        based = (PurePosixPath(self.base) / value).as_posix()
        is_darknet = _is_in_darknet_folder(self.file)
        root = self.root if is_darknet or not self.free else here
        choices = [(root, here, text) for text in (based, value)]
        if is_darknet:  # it is started beside the folder, to which its paths are relative
            choices.insert(0, (root, root, value))
        for inside, start, text in choices:
            found = existing_path(inside, start, text)
            if found is None:
                continue
            if os.path.normpath(found) != os.path.normpath(written):
                place = found.relative_to(here).as_posix() if found.is_relative_to(here) else found
                self.moved.append(f"{key!r} is {short(value)}: {place}")
            return found
        if _exists(written):
            if self.free:
                return written
            command = f"setmatch audit {shlex.quote(str(self.file))}"
            raise DataError(
                f"{self.file}: '{key}' is {short(value, 200)}, which leads out of {self.root}; "
                f"correct the path, or name this file to follow it: `{command}`"
            )
        parts = written_parts(value)
        tried = ["/".join(parts[first:]) for first in range(len(parts))]
        shown = ", ".join(str(here / each)[:_MAX_CHARACTERS] for each in tried[:_MAX_NAMES])
        shown = shown or str(here)
        shown += ", ..." * (len(tried) > _MAX_NAMES)
        raise LostSplitError(
            f"{self.file}: '{key}' is {short(value, 200)}, but none of {shown} exists; correct the "
            "path"
        )


def _is_in_darknet_folder(file: Path) -> bool:
    return file.suffix == ".data" and file.parent.name.lower() in DARKNET_FOLDERS


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _names(places: _Places, tree: dict[Any, Any]) -> list[str]:
    file, names = places.file, tree["names"]
    if file.suffix == ".data":
        names = names_in(places.find("names", str(names)))
    if isinstance(names, dict):
        keys = list(map(_whole, names))
        first = _first_class(names)
        numbers = range(first, first + len(keys))
        if sorted(keys, key=str) != sorted(numbers, key=str):
            raise DataError(
                f"{file}: 'names' has the keys {short(keys)}; they should be 0, 1, 2, ..., or 1, "
                "2, 3, ... where the labels count from 1"
            )
        by_key = dict(zip(keys, names.values(), strict=True))
        names = [by_key[number] for number in numbers]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: 'names' is {short(names)}; it should be a list of class names")
    # YAML reads the name 7 as a number, which is harmless, but the name no as False.
    for name in names:
        if type(name) not in (str, int) or not clean_name(str(name)):
            raise DataError(f"{file}: 'names' has {short(name)}; write class names in quotes")
    names = [clean_name(str(name)) for name in names]
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{file}: 'names' has {short(repeated)} twice; rename one of the classes")
    if "nc" in tree and _whole(tree["nc"]) != len(names):
        raise DataError(
            f"{file}: 'nc' is {short(tree['nc'])}, but 'names' has {len(names)}; make them agree"
        )
    return names


def _first_class(names: Any) -> int:
    """Return the lowest number that names give to a class, if it is 1; 0 for all others."""
    keys = set(map(_whole, names)) if isinstance(names, dict) else set()
    return int(1 in keys and 0 not in keys)


def _whole(value: Any) -> Any:
    """Return a whole number that is written as a text, such as '3'; any other value unchanged."""
    is_whole = isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value.strip())
    return int(value) if is_whole else value


def _tree(file: Path) -> Any:
    try:
        text = read_text(file, "utf-8-sig")
        if file.suffix == ".data":
            lines = (re.sub(r"(^|\s)[#;].*", "", line) for line in text.splitlines())
            parts = (line.partition("=") for line in lines)
            pairs = [(key.strip(), value.strip()) for key, equals, value in parts if equals]
        else:
            tree = parse_yaml(text, unique_keys=True)
            if not isinstance(tree, dict):
                return tree
            pairs = list(tree.items())
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{file}: cannot be read ({reason}); name a readable file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text ({error}); save it as UTF-8") from None
    except (ValueError, YamlError) as error:
        reason = str(error)[:200]
        raise DataError(f"{file}: cannot be read as YAML ({reason}); correct it") from None
    tree = {}
    for key, value in pairs:
        small = key.lower() if isinstance(key, str) else key  # as in Names or TRAIN
        if small in tree:
            raise DataError(f"{file}: {short(small)} is given twice; remove one of both")
        tree[small] = value
    return tree
