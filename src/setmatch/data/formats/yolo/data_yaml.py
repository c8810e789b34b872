"""Read a YOLO data.yaml, or darknet's obj.data: the class names, and the images of each split."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setmatch.data.formats.class_names import names_in
from setmatch.data.formats.layout import relocate_path
from setmatch.data.splits import canonical
from setmatch.errors import DataError, short
from setmatch.reading import read_text
from setmatch.safe_yaml import YamlError, parse_yaml

SUFFIXES = (".yaml", ".yml", ".data")
_MAX_NAMES = 8  # in an error message


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says. A split whose path leads nowhere is a DataError, to be raised late.

    A lost test split keeps nobody from training.
    """

    file: Path
    names: tuple[str, ...]
    splits: dict[str, tuple[Path, ...] | DataError]  # folders of images, or lists of image files
    keypoints: tuple[int, int] | None = None  # kpt_shape: how many, and the numbers of each


def read_data_yaml(file: Path) -> DataYaml:
    """Read a data.yaml or obj.data; raises DataError with the file, the key and the value."""
    tree = _tree(file)
    if not isinstance(tree, dict) or "names" not in tree:
        raise DataError(f"{file}: no 'names'; a YOLO data.yaml should list the class names")
    names = _names(file, tree)
    splits: dict[str, tuple[Path, ...] | DataError] = {}
    used: dict[tuple[Path, ...], tuple[str, list[str]]] = {}
    for key, value in tree.items():
        split = canonical(key) if isinstance(key, str) else None
        if split is None or not value:
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise DataError(
                f"{file}: '{key}' is {short(value)}; it should be a folder or a list of folders"
            )
        try:
            sources = tuple(_existing_path(file, tree, key, each) for each in values)
        except DataError as error:
            splits[split] = error
            continue
        other, other_values = used.setdefault(sources, (key, values))
        if other_values != values:
            places = ", ".join(map(str, sources))
            raise DataError(
                f"{file}: '{other}' is {short(other_values)} and '{key}' is {short(values)}, but "
                f"both lead to {places}; correct the paths"
            )
        splits[split] = sources
    return DataYaml(file, tuple(names), splits, _keypoints(file, tree.get("kpt_shape")))


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
    """Return whether a YAML file has the keys of a data.yaml; raises DataError for broken YAML."""
    tree = _tree(file)
    return isinstance(tree, dict) and "names" in tree and bool({"train", "val"} & set(tree))


def _existing_path(file: Path, tree: dict[Any, Any], key: str, value: str) -> Path:
    """Return the folder or list that a path means, even if the data set has moved since."""
    base = tree.get("path") or "."
    if not isinstance(base, str):
        raise DataError(f"{file}: 'path' is {short(base)}; it should be a folder")
    if "\0" in base + value:
        raise DataError(f"{file}: '{key}' is {short(value)}; a path cannot contain a zero byte")
    place = next(filter(Path.exists, _candidates(file.parent, base, value)), None)
    if place is None:
        candidates = dict.fromkeys(map(str, _candidates(file.parent, base, value)))
        tried = ", ".join(list(candidates)[:_MAX_NAMES]) + ", ..." * (len(candidates) > _MAX_NAMES)
        raise DataError(
            f"{file}: '{key}' is {short(value, 200)}, but none of {tried} exists; correct the path"
        )
    return place


def _candidates(folder: Path, base: str, value: str) -> Iterator[Path]:
    yield folder / base / value
    yield from relocate_path(folder, value)


def _names(file: Path, tree: dict[Any, Any]) -> list[str]:
    names = tree["names"]
    if file.suffix == ".data":
        names = names_in(_existing_path(file, tree, "names", str(names)))
    if isinstance(names, dict):
        keys = list(names)
        if sorted(keys, key=str) != sorted(range(len(keys)), key=str):
            raise DataError(
                f"{file}: 'names' has the keys {short(keys)}; they should be 0, 1, 2, ..."
            )
        names = [names[class_index] for class_index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: 'names' is {short(names)}; it should be a list of class names")
    # YAML reads the name 7 as a number, which is harmless, but the name no as False.
    for name in names:
        if type(name) not in (str, int) or not str(name).strip():
            raise DataError(f"{file}: 'names' has {short(name)}; write class names in quotes")
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{file}: 'names' has {short(repeated)} twice; rename one of the classes")
    if "nc" in tree and tree["nc"] != len(names):
        raise DataError(
            f"{file}: 'nc' is {short(tree['nc'])}, but 'names' has {len(names)}; make them agree"
        )
    return [str(name) for name in names]


def _tree(file: Path) -> Any:
    try:
        text = read_text(file, "utf-8-sig")
        if file.suffix == ".data":
            pairs = (line.partition("=") for line in text.splitlines())
            return {key.strip(): value.strip() for key, _, value in pairs}
        return parse_yaml(text)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{file}: cannot be read ({reason}); name a readable file") from None
    except (ValueError, YamlError) as error:
        reason = str(error)[:200]
        raise DataError(f"{file}: cannot be read as YAML ({reason}); correct it") from None
