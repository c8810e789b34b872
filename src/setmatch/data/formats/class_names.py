"""Class names, for formats that keep them in a text file apart from the annotations."""

import re
from collections.abc import Sequence
from pathlib import Path

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.layout import files_in
from setmatch.errors import DataError, quoted, short
from setmatch.files.reading import read_text
from setmatch.structures.metadata import Categories

_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"  # spaces of no width, which strip() keeps
# In small letters. Tools write these beside the labels, or above them.
NAME_FILES = (
    *("classes.txt", "labels.txt", "obj.names", "classes.names", "names.txt"),
    *("predefined_classes.txt", "_darknet.labels"),
)


def clean_name(name: str) -> str:
    """Return a class name without the blanks at its ends, those of no width too.

    Nobody sees them, but a model would learn "cat" and "cat " as two classes.
    """
    cleaned = name.strip().strip(_INVISIBLE)
    return name if cleaned == name else clean_name(cleaned)


def is_list_of_names(name: str) -> bool:
    """Return whether a file of this name lists class names."""
    return name.lower() in NAME_FILES


def read_names(folder: Path) -> list[str] | None:
    """Return the class names in a folder's classes.txt; None where there is no such file.

    Of several such files the longest counts, if the others are its beginning. Raises DataError
    where they are not, and as `names_in` does.
    """
    suffixes = {Path(name).suffix for name in NAME_FILES}
    files = [folder / name for name in files_in(folder, suffixes) if is_list_of_names(name)]
    return longest_list([(str(file), names) for file in files if (names := names_in(file))])


def free_lists(folder: Path) -> list[Path]:
    """Return the lists of class names in a folder that are called as their author liked."""
    return [folder / name for name in files_in(folder, [".names"]) if not is_list_of_names(name)]


def lists_of_names(folder: Path) -> list[Path]:
    """Return the files of a folder that may list class names; the usual ones need not exist."""
    return [*(folder / name for name in NAME_FILES), *free_lists(folder)]


def longest_list(found: Sequence[tuple[str, list[str]]]) -> list[str] | None:
    """Return the longest of several lists of class names, each with its place; None for none.

    Raises DataError where another is not its beginning, since a number would mean two classes.
    """
    if not found:
        return None
    longest_place, longest = max(found, key=lambda each: len(each[1]))
    for place, names in found:
        if names != longest[: len(names)]:
            raise DataError(
                f"{place}: its list of classes is {short(names)}, that of {longest_place} is "
                f"{short(longest)}; number the classes alike, or remove the wrong list"
            )
    return longest


def names_in(path: Path) -> list[str] | None:
    """Return the class names in a text file, one a line; None where the file is empty.

    Raises DataError when the file cannot be read, has an empty line in the middle, or lists a
    name twice.
    """
    try:
        lines = read_text(path, "utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8"
        ) from None
    names = _without_numbers([clean_name(line) for line in lines])
    if not all(names):
        empty = names.index("") + 1
        raise DataError(f"{path}:{empty}: empty line; remove it, or write the class name")
    seen: set[str] = set()
    for line, name in enumerate(names, start=1):
        if name in seen:
            raise DataError(
                f"{path}:{line}: class {short(name)} is listed twice; rename or remove one"
            )
        seen.add(name)
    return names or None


def _without_numbers(lines: Sequence[str]) -> list[str]:
    """Return the names of lines that all begin with their number, from 0, as in "0: cat".

    Numbers are part of the names where these would be equal without them, as in "1 euro".
    """
    found = (re.fullmatch(r"([0-9]{1,6})(?:\s*[:=,;\t]\s*| +)(\S.*)", line) for line in lines)
    parts = [part for part in found if part is not None]
    are_numbers = [int(part[1]) for part in parts] == list(range(len(lines)))
    names = [part[2] for part in parts]
    is_certain = len(lines) > 1 and len(set(names)) == len(names)
    return names if are_numbers and is_certain else list(lines)


def categories_of(
    listed: Sequence[str] | None,
    used: Sequence[str],
    source: Path,
    fixes: list[AnnotationFix],
    first_id: int,
) -> Categories:
    """Return the listed classes, then those only used in annotations; ids count from `first_id`.

    Used classes that a list lacks are recorded in `fixes`. Raises DataError when there is no class.
    """
    names = list(listed or ())
    listed_names = set(names)
    further = [name for name in used if name not in listed_names]
    if listed is not None and further:
        value = quoted(further)
        fixes.append(AnnotationFix.of_many(value, "classes not listed: added at the end"))
    if not names and not further:
        raise DataError(
            f"{source}: no annotation has an object, and so there are no classes; annotate at "
            "least one object"
        )
    names += further
    return Categories(tuple(range(first_id, first_id + len(names))), tuple(names))
