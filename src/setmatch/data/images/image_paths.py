"""Find image files by name, folder or pattern, and tell data from what systems leave beside it."""

import glob
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from setmatch.data.images.heif import HEIF_SUFFIXES, register_heif
from setmatch.errors import DataError, short

log = logging.getLogger("setmatch")
_DECODED = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".avif", ".jp2"),
    *(".jpe", ".jfif", ".mpo", ".apng", ".dib", ".pbm", ".pnm", ".pfm", ".avifs"),
    *(".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".tga", ".icb", ".vda", ".vst", ".pcx", ".dcx"),
    *(".psd", ".qoi", ".sgi", ".rgb", ".rgba", ".bw", ".ras", ".dds", ".blp", ".ico", ".icns"),
    *(".cur", ".xbm", ".xpm", ".im", ".msp", ".pcd", ".pxr", ".fits", ".fli", ".flc"),
    *(".ftc", ".ftu"),
)
# Raw files of cameras. Most are TIFF inside, but Pillow finds only a small preview in them.
RAW_SUFFIXES = (
    *(".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2"),
    *(".raf", ".pef", ".srw", ".x3f", ".3fr", ".iiq", ".erf", ".kdc", ".mrw", ".rwl", ".raw"),
)
_OTHERS = (".jxl", ".jxr", ".wdp", ".hdp", ".exr", ".hdr", ".dcm", ".svg", ".eps", ".wmf", ".emf")
_UNDECODED = (*HEIF_SUFFIXES, *RAW_SUFFIXES, *_OTHERS)
# Image files; those that cannot be decoded come last, and are reported instead of passed over.
SUFFIXES = (*_DECODED, *_UNDECODED)
_NAMED_SUFFIXES = 8  # in an error message
# Folders of network drives, archives, recycle bins and interpreters, in small letters.
_SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "@recycle", "#snapshot", "__macosx", "__pycache__"),
        *("$recycle.bin", "system volume information", "lost+found"),
    }
)


def is_data_name(name: str) -> bool:
    """Return whether a file or folder of this name can hold data.

    Names with a leading dot never do: notebooks leave copies in .ipynb_checkpoints, and macOS
    leaves AppleDouble files (._photo.jpg). Nor do folders such as @eaDir and __MACOSX, which hold
    thumbnails.
    """
    return not name.startswith(".") and name.lower() not in _SYSTEM_FOLDERS


def is_undecoded(name: str) -> bool:
    """Return whether a file has the suffix of an image format that nothing here decodes."""
    suffix = Path(name).suffix.lower()
    return suffix in _UNDECODED and not (suffix in HEIF_SUFFIXES and register_heif())


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """Return the image files of files, folders (searched recursively) and globs, each once.

    A file named directly counts whatever its name; in folders and globs the suffix decides, and
    `is_data_name`. A folder inside that cannot be listed is left out, which a warning of "setmatch"
    says. Raises DataError for a source that does not exist, cannot be listed or holds no image.
    """
    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        is_file = os.path.lexists(path) and not path.is_dir()
        matches = [path] if is_file else files_of(source, SUFFIXES)
        if not matches:
            known = ", ".join(SUFFIXES[:_NAMED_SUFFIXES])
            raise DataError(f"{source}: no image files; looked for {known} and others")
        found.update(dict.fromkeys(matches))
    return list(found)


def files_of(source: str | Path, suffixes: Collection[str]) -> list[Path]:
    """Return the sorted files of a folder (searched recursively) or a glob with these suffixes.

    Suffixes are in small letters, with their dot. Names are those of `is_data_name`. Raises
    DataError for a source that does not exist or cannot be listed.
    """
    path = Path(source)
    if not str(source):  # which Path would take for the folder that the program runs in
        raise DataError("the name of the images is empty; name a file, a folder or a pattern")
    try:
        is_folder = path.is_dir()
    except OSError as error:  # a name that is too long
        raise DataError(
            f"{short(str(source))}: no such file or folder ({error.strerror})"
        ) from None
    found = _files_below(path) if is_folder else _expanded(str(source))
    # Everything but folders counts, also a broken link: reading it says what is wrong.
    return sorted(
        each
        for each in found
        if each.suffix.lower() in suffixes and is_data_name(each.name) and not each.is_dir()
    )


def _files_below(folder: Path) -> Iterator[Path]:
    def unlisted(error: OSError) -> None:
        problem = f"{error.filename}: cannot be listed ({error.strerror})"
        if str(error.filename) == str(folder):
            raise DataError(f"{problem}; allow to read the folder") from None
        log.warning("%s, so that its images are left out; allow to read the folder", problem)

    for place, inner, names in os.walk(folder, onerror=unlisted):
        inner[:] = filter(is_data_name, inner)  # os.walk visits only these
        yield from (Path(place, name) for name in names)


def _expanded(pattern: str) -> list[Path]:
    if not glob.has_magic(pattern):
        where = "; download what is at an address first" if "://" in pattern else ""
        raise DataError(f"{pattern}: no such file or folder{where}")
    tries = (pattern, _with_existing_folders(pattern))
    found = (glob.glob(each, recursive=True) for each in tries)
    paths = list(map(Path, next(filter(None, found), [])))
    if not paths:
        raise DataError(f"{pattern}: the pattern matches no file")
    named = set(Path(pattern).parts)  # a folder that the pattern names is meant
    return [path for path in paths if all(map(is_data_name, {*path.parts[:-1]} - named))]


def _with_existing_folders(pattern: str) -> str:
    """Return the pattern with the folders it begins with as they are, such as "photos [1]"."""
    existing, rest = Path(), list(Path(pattern).parts)
    while rest and (existing / rest[0]).is_dir():
        existing /= rest.pop(0)
    return str(Path(glob.escape(str(existing)), *rest))
