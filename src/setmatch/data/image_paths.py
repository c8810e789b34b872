"""Which image files are meant by names, folders and patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path

from setmatch.errors import DataError

SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".avif", ".jp2"),
)


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """List the image files meant by files, folders (with all below them) and globs, each once.

    A file named outright counts whatever its name; in folders and globs the suffix decides.
    Raises DataError that names the source which does not exist or holds no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = sorted(filter(_looks_like_image, path.rglob("*")))
        else:
            matches = sorted(filter(_looks_like_image, map(Path, _expanded(str(source)))))
        if not matches:
            known = ", ".join(SUFFIXES)
            raise DataError(f"{source}: no image with a usual suffix in it; looked for {known}")
        found.update(dict.fromkeys(matches))
    return list(found)


def _expanded(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        raise DataError(f"{pattern}: no such file or folder")
    names = glob.glob(pattern, recursive=True)
    if not names:
        raise DataError(f"{pattern}: the pattern matches no file")
    return names


def _looks_like_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
