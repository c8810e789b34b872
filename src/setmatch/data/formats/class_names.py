"""The names of the classes, for formats that keep them apart from the annotations."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.data.dataset import AnnotationFix
from setmatch.data.formats.build import file_wide
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories

NAME_FILES = ("classes.txt", "labels.txt", "obj.names", "classes.names")


def read_names(folder: Path) -> list[str] | None:
    """Return the names in a folder's classes.txt, one a line; None where there is no such file.

    Raises DataError as `names_in` does.
    """
    return next((names_in(folder / name) for name in NAME_FILES if (folder / name).is_file()), None)


def names_in(path: Path) -> list[str] | None:
    """Return the names in a text file, one a line; None where it is empty.

    Raises DataError when it cannot be read, a line in the middle is empty, or one comes twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as UTF-8 text ({error}); save it as such"
        ) from None
    names = [line.strip() for line in lines]
    if not all(names):
        empty = names.index("") + 1
        raise DataError(f"{path}:{empty}: empty line; remove it, or name the class")
    for line, each in enumerate(names, start=1):
        if each in names[: line - 1]:
            raise DataError(f"{path}:{line}: {each!r} is listed twice; name classes apart")
    return names or None


def categories_of(
    listed: Sequence[str] | None,
    found: Sequence[str],
    source: Path,
    fixes: list[AnnotationFix],
    first_id: int,
) -> Categories:
    """Return classes with ids from `first_id`: as listed, then those found besides, as noted.

    Raises DataError when there is no class at all.
    """
    names = list(listed or ())
    further = [name for name in found if name not in names]
    if listed is not None and further:
        fixes.append(file_wide(", ".join(further)[:60], "classes not listed: added at the end"))
    if not names and not further:
        raise DataError(
            f"{source}: no object and so no class in any of its annotations; annotate at least one"
        )
    names += further
    return Categories(tuple(range(first_id, first_id + len(names))), tuple(names))
