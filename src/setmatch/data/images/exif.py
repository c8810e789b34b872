"""The EXIF orientation of an image, from its header alone where that is possible."""

import struct
from collections.abc import Iterator

from PIL import Image, ImageFile

_ORIENTATION = 0x0112
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNKS_OF_EXIF = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if there is none.

    Pillow decodes all pixels of a PNG to look for EXIF after them. It only does so here where text
    or EXIF follows.
    """
    if isinstance(image, ImageFile.ImageFile) and image.tile and _has_no_exif_at_the_end(image):
        exif = Image.Image.getexif(image)
    else:
        exif = image.getexif()
    orientation = exif.get(_ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _has_no_exif_at_the_end(image: ImageFile.ImageFile) -> bool:
    if image.format != "PNG" or image.fp is None:
        return False
    place = image.fp.tell()
    kinds = list(_png_chunks(image))
    image.fp.seek(place)
    pixels = kinds.index(b"IDAT") if b"IDAT" in kinds else 0
    return not _PNG_CHUNKS_OF_EXIF & set(kinds[pixels:])


def _png_chunks(image: ImageFile.ImageFile) -> Iterator[bytes]:
    """Yield the kind of each chunk of a PNG, skipping its content."""
    assert image.fp is not None, "the file is open"
    image.fp.seek(_PNG_SIGNATURE_BYTES)
    while len(head := image.fp.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind
        image.fp.seek(length + 4, 1)
