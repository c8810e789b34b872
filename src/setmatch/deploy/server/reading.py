"""Read the image of a request, which may come from anyone."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from setmatch.data.images.decoding import decode_header, decode_pixels
from setmatch.data.images.unreadable import UnreadableError
from setmatch.deploy.server.limits import Refusal

# Formats of photographs, by Pillow's names. It knows dozens of others, whose decoders are seldom
# used, and could be attacked.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
# Scans in a JPEG file; cameras write one, or about ten. Each takes the time of a pass over all
# pixels, but only a few bytes of the file.
MOST_SCANS = 500
_UNKNOWN = "not an image that can be read here: send JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
_SOURCE = "the image"
_START_OF_SCAN = b"\xff\xda"


def read_upload(content: bytes, max_pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image of a file as RGB, upright.

    Raises Refusal for one that cannot be read, or would take far more memory or time than its size
    suggests.
    """
    if not content:
        raise Refusal(422, "the image is empty: send the bytes of an image file")
    try:
        header = decode_header(content, _SOURCE, FORMATS)
        height, width = header.size_px
        if height * width > max_pixels:
            raise Refusal(
                413,
                f"the image has {width}×{height} pixels (width × height), and the limit is "
                f"{max_pixels:,} pixels: send a smaller one",
            )
        if header.format in ("JPEG", "MPO") and content.count(_START_OF_SCAN) > MOST_SCANS:
            raise Refusal(422, f"the image has more than {MOST_SCANS} scans: save it anew")
        return decode_pixels(content, _SOURCE, FORMATS)
    except UnreadableError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise Refusal(413, f"the image is too large: {error.file.reason}") from None
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise Refusal(422, _UNKNOWN) from None
        raise Refusal(422, f"the image cannot be read: {error.file.reason}") from None
