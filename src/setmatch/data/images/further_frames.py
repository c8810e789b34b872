"""Images of which only a part is read: animations, and files of several pages."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.data.images.decoding import read_header
from setmatch.errors import DataError
from setmatch.files.reading import open_regular

# How files begin that may hold several images. JPEG is left out: its further ones are previews.
_MAY_HOLD_MORE = (b"GIF8", b"\x89PNG", b"RIFF", b"II", b"MM", b"\0\0\0")


def has_further_frames(path: str | Path) -> bool:
    """Return whether a file holds images after the first one, which alone is read.

    It is False for a file that cannot be read.
    """
    try:
        with open_regular(path) as file:
            start = file.read(4)
        return start.startswith(_MAY_HOLD_MORE) and read_header(path).animated
    except (OSError, DataError):
        return False


def further_frames_line(paths: Sequence[Path], images: int) -> str:
    """Return how many of the `images` are the first of several, and one of them; "" for none."""
    if not paths:
        return ""
    first = min(paths, key=lambda path: (path.name, path))
    return (
        f"{len(paths)} of {images} images are animations or have several pages, of which the first "
        f"is read: {first.name}{', ...' if len(paths) > 1 else ''}"
    )
