"""Choose the YAML file that describes a folder's data among all that lie there.

Old versions and files of other programs lie beside it. Whichever sorts first says nothing.
"""

import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.formats.base import UnrelatedFileError
from setmatch.data.formats.layout import files_in, folders_named
from setmatch.data.formats.yolo.data_yaml import (
    DARKNET_FOLDERS,
    SUFFIXES,
    DataYaml,
    is_data_yaml,
    read_data_yaml,
)
from setmatch.errors import DataError

_USUAL_STEMS = ("data", "dataset")


@dataclass(frozen=True)
class ChosenYaml:
    """The file that describes the data, and sentences on the others."""

    config: DataYaml
    notes: tuple[str, ...]


def choose_yaml(folder: Path, root: Path) -> ChosenYaml | None:
    """Return the data.yaml of a folder; None where no YAML file describes data.

    Files whose paths lead to more splits come first, unless one is called data.yaml and leads to
    any. Raises DataError where two files say different things and neither comes first, where
    data.yaml cannot be read, and UnrelatedFileError where another one cannot and none describes
    data.
    """
    configs: list[DataYaml] = []
    broken: list[DataError] = []
    for name in files_in(folder, SUFFIXES):
        file = folder / name
        try:
            if is_data_yaml(file):
                configs.append(read_data_yaml(file, root))
        except DataError as error:
            if _is_usual(file):
                raise
            broken.append(error)
    if not configs:
        configs = _darknet_files(folder, root)
    if not configs:
        if broken:
            raise UnrelatedFileError(str(broken[0]))
        return None
    best = max(map(_rank, configs))
    likeliest = [config for config in configs if _rank(config) == best]
    chosen = likeliest[0]
    for other in likeliest[1:]:
        if not _says_the_same(chosen, other):
            raise _several(chosen, other)
    others = [other for other in configs if not _says_the_same(chosen, other)]
    notes = [
        f"read from {chosen.file.name}; {other.file.name} says otherwise and is not read"
        for other in others
    ]
    notes += [f"read from {chosen.file.name}; not read: {error}" for error in broken]
    return ChosenYaml(chosen, tuple(notes))


def _darknet_files(folder: Path, root: Path) -> list[DataYaml]:
    """Return the .data files in cfg/ and the like that lead to images; others may be examples."""
    found = []
    for place in folders_named(folder, DARKNET_FOLDERS):
        for name in files_in(place, [".data"]):
            with suppress(DataError):
                found.append(read_data_yaml(place / name, root))
    return [config for config in found if config.found]


def _is_usual(file: Path) -> bool:
    return file.stem.lower() in _USUAL_STEMS


def _rank(config: DataYaml) -> tuple[bool, int]:
    return _is_usual(config.file) and config.found > 0, config.found


def _says_the_same(one: DataYaml, other: DataYaml) -> bool:
    if (one.names, one.first_class) != (other.names, other.first_class):
        return False
    if one.splits.keys() != other.splits.keys():
        return False
    return all(
        isinstance(other.splits[split], DataError)
        if isinstance(sources, DataError)
        else sources == other.splits[split]
        for split, sources in one.splits.items()
    )


def _several(one: DataYaml, other: DataYaml) -> DataError:
    same = (one.names, one.first_class) == (other.names, other.first_class)
    differ = "folders" if same else "classes"
    return DataError(
        f"{one.file} and {other.file} name different {differ} for the same data; name the right "
        f"one, as in `setmatch audit {shlex.quote(str(one.file))}`, or call it data.yaml"
    )
