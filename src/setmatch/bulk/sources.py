"""The images of a bulk prediction: files, folders, patterns, addresses, and lists of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from setmatch.bulk.remote import is_remote, list_remote, read_remote
from setmatch.data.images.image_paths import find_images
from setmatch.errors import DataError
from setmatch.files.reading import read_bytes

LIST_SUFFIXES = (".txt", ".lst", ".list")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def list_images(sources: Sequence[str | Path]) -> list[str]:
    """Return the images of all sources, each once, in the order of the sources.

    A source is an image file, a folder, a pattern, or an address such as s3://bucket/images of one
    of these. A text file (.txt, .lst or .list) has an image a line, a path from the current folder
    or an address. Whether the images of a text file exist is seen when they are read. Raises
    DataError for a source without images.
    """
    return list(dict.fromkeys(image for source in sources for image in _images_of(str(source))))


def _images_of(source: str) -> Iterator[str]:
    if source.lower().endswith(LIST_SUFFIXES):
        yield from _lines(source)
    elif is_remote(source):
        yield from list_remote(source)
    else:
        yield from map(str, find_images([source]))


def _lines(source: str) -> list[str]:
    """Return the lines of a text file that are not blank, without blanks around them."""
    try:
        content = read_remote(source) if is_remote(source) else read_bytes(source)
    except OSError as error:
        raise DataError(f"{source}: cannot be read as a list ({error.strerror})") from None
    if b"\0" in content:
        raise DataError(f"{source}: is not text; a list has the path of an image in each line")
    lines = content.removeprefix(_BYTE_ORDER_MARK).splitlines()
    images = [os.fsdecode(line.strip()) for line in lines if line.strip()]
    if not images:
        raise DataError(f"{source}: is empty; a list has the path of an image in each line")
    return images
