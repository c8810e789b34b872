"""Results belong in a folder of their own: in that of a data set, they would be read as data."""

from pathlib import Path

from setmatch.data.formats.layout import (
    ANNOTATION_FOLDERS,
    files_in,
    is_image_folder,
    subfolders,
)
from setmatch.data.images.image_paths import SUFFIXES
from setmatch.errors import ConfigError


def require_own_folder(data: str | Path, out: str | Path) -> None:
    """Raise ConfigError where results would be written among the files of a data set.

    That is its folder itself, and those in it that have its images or annotations. A new folder
    inside, such as data/runs, is none of these.
    """
    root = Path(data) if Path(data).is_dir() else Path(data).parent
    place, top = Path(out).resolve(), root.resolve()
    if not Path(data).exists() or not place.is_relative_to(top):
        return
    inside = place.relative_to(top).parts
    if not inside or _is_of_data(top / inside[0]):
        raise ConfigError(
            f"{out}: belongs to the data set {data}, whose files would mix with what is written "
            "there; name a folder of its own, such as runs/first"
        )


def _is_of_data(folder: Path) -> bool:
    """Return whether a folder is called as those of images or annotations, and has any."""
    if not is_image_folder(folder.name) and folder.name.lower() not in ANNOTATION_FOLDERS:
        return False
    endings = (*SUFFIXES, ".txt", ".xml")
    is_usual = folder.name.lower() in ANNOTATION_FOLDERS and bool(files_in(folder, [".json"]))
    return is_usual or any(files_in(place, endings) for place in (folder, *subfolders(folder)))
