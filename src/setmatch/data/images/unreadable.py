"""How files of images that cannot be read are described: a sentence for each, and a line for all.

Every command uses both, so that the same files are counted and named alike everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from setmatch.data.images.heif import HEIF_SUFFIXES
from setmatch.errors import DataError

_NAMED = 5  # files in the line for all
_CHARACTERS = 100  # of each reason there


@dataclass(frozen=True)
class UnreadableFile:
    """The file of an image that cannot be read, why, and what to do. As text, it is a sentence."""

    path: str
    reason: str
    advice: str = "replace or remove the file"
    meaning: str = "an image"  # that the file does not have

    def __str__(self) -> str:
        return f"{self.path}: cannot be read as {self.meaning} ({self.reason}); {self.advice}"

    @property
    def short(self) -> str:
        """Return the name of the file and the reason, without the folder and what to do."""
        return f"{Path(self.path).name} ({self.reason[:_CHARACTERS]})"


class UnreadableError(DataError):
    """An image whose `file` cannot be read."""

    def __init__(self, file: UnreadableFile) -> None:
        super().__init__(file)
        self.file = file


def undecoded(path: str | Path) -> UnreadableFile:
    """Return the file of an image in a format that nothing here decodes."""
    suffix = Path(path).suffix
    advice = "convert it to JPEG or PNG"
    if suffix.lower() in HEIF_SUFFIXES:
        advice += ", or install pi-heif"
    return UnreadableFile(str(path), f"nothing here decodes {suffix} files", advice)


def unreadable_line(files: Iterable[UnreadableFile], images: int, are_all: bool = True) -> str:
    """Return how many of the `images` that were looked at cannot be read, and which; "" for none.

    `are_all` is False where these images are a sample.
    """
    listed = sorted(set(files), key=lambda file: (Path(file.path).name, file.path))
    if not listed:
        return ""
    named = ", ".join(file.short for file in listed[:_NAMED])
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    looked_at = "" if are_all else "that were looked at "
    return f"{len(listed)} of {images} images {looked_at}cannot be read: {named}{more}"
