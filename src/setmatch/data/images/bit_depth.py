"""Images of more than 8 bits a channel: how many of the bits they use, and how they become 8.

Sensors of 10, 12 or 14 bits are stored in 16, with values that end far below 65535. Read by the
range of the file, such an image is nearly black. It is therefore stretched by the range of its
bits: by 4095 if its brightest value fits into 12. The rule depends on the file alone, so that
training, evaluation and prediction see the same image.
"""

import sys
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageFile

_DEPTHS = (8, 10, 12, 14, 16)
_MOST = 65535
_ALL_BITS = 64  # of 255: a color image that reaches it uses 15 bits or more


@dataclass(frozen=True)
class Depth:
    """How an image of 16 bits a channel is read.

    `brightest` is its brightest value, for color rounded up to the upper 8 of 16 bits. Images of a
    rare layout are not `is_read_by_its_bits`, and nearly black.
    """

    brightest: int
    is_read_by_its_bits: bool

    @property
    def bits(self) -> int:
        """The bits that the image uses."""
        return used_bits(self.brightest)


def used_bits(brightest: int) -> int:
    """Return the depth of the sensor, 8 to 16 bits, whose values reach up to `brightest`."""
    return next((bits for bits in _DEPTHS if brightest < 1 << bits), _DEPTHS[-1])


def to_8_bits(values: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Return values of more than 8 bits as 8 bits; those above 65535 become white."""
    values = values.astype(np.int64).clip(0, _MOST)
    white = (1 << used_bits(int(values.max(initial=0)))) - 1
    return np.asarray(values * 255 // white).astype(np.uint8)


def is_gray_of_16_bits(image: Image.Image) -> bool:
    """Return whether an image has one channel of 16 or 32 bits."""
    return image.mode.startswith("I")


def is_color_of_16_bits(image: Image.Image) -> bool:
    """Return whether the file of an image, not decoded yet, has several channels of 16 bits."""
    tiles = getattr(image, "tile", [])
    return image.mode != "I;16" and any(";16" in str(tile[3]) for tile in tiles[:1])


def stretched_color(image: Image.Image) -> Image.Image | None:
    """Return a dark color image of 16 bits a channel, stretched; None for any other image.

    Pillow keeps the upper 8 bits of each value, which leaves 4 of 12. It is decoded again for the
    lower ones.
    """
    if not isinstance(image, ImageFile.ImageFile) or not is_color_of_16_bits(image):
        return None
    assert image.fp is not None, "the image is not decoded yet"
    place = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read()
    image.fp.seek(place)
    upper = np.asarray(image)[..., :3].astype(np.int64)
    lower = _lower_bytes(content, image.format or "") if upper.max(initial=0) < _ALL_BITS else None
    if lower is None:
        return None
    stretched = Image.fromarray(to_8_bits(upper * 256 + lower))
    stretched.info = image.info  # EXIF
    return stretched


def _lower_bytes(content: bytes, form: str) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the lower byte of each color value of an image file; None where Pillow cannot."""
    with Image.open(BytesIO(content), formats=[form]) as image:
        tiles = [tuple(tile) for tile in image.tile]
        image.tile = [(*tile[:3], _swapped(tile[3])) for tile in tiles]  # type: ignore[misc]
        try:
            return np.asarray(image)[..., :3]
        except ValueError:  # no decoder for this order of bytes
            return None


def _swapped(arguments: Any) -> Any:
    """Return the arguments of a decoder that takes the other byte of two for the upper one."""
    if not isinstance(arguments, str):
        raw_mode, *others = arguments
        return (_swapped(raw_mode), *others)
    order = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    return arguments[:-1] + order[arguments[-1]]


def depth_of(image: Image.Image) -> Depth | None:
    """Return how an image of 16 bits a channel, not decoded yet, is read; None for any other."""
    if is_gray_of_16_bits(image):
        brightest = min(int(np.asarray(image).max(initial=0)), _MOST)
        return Depth(brightest, is_read_by_its_bits=True)
    if not is_color_of_16_bits(image):
        return None
    stretched = stretched_color(image)
    brightest = int(np.asarray(image)[..., :3].max(initial=0)) * 256 + 255
    return Depth(brightest, stretched is not None or used_bits(brightest) == _DEPTHS[-1])
