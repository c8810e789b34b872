"""Find image files by name, folder or pattern."""

import glob
from collections.abc import Sequence
from pathlib import Path

from setmatch.errors import DataError

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".avif", ".jp2"),
)


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """Return the image files of files, folders (searched recursively) and globs, each once.

    A file named directly counts whatever its name; in folders and globs the suffix decides.
    Raises DataError for a source that does not exist or holds no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = sorted(filter(_has_image_suffix, path.rglob("*")))
        else:
            matches = sorted(filter(_has_image_suffix, map(Path, _expanded(str(source)))))
        if not matches:
            known = ", ".join(SUFFIXES)
            raise DataError(f"{source}: no image files; looked for {known}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _expanded(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        raise DataError(f"{pattern}: no such file or folder")
    names = glob.glob(pattern, recursive=True)
    if not names:
        raise DataError(f"{pattern}: the pattern matches no file")
    return names


def _has_image_suffix(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
