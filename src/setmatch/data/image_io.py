"""Read image files as upright uint8 RGB tensors."""

import re
import struct
import zlib
from io import SEEK_END, BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor

from setmatch.errors import DataError

_EXIF_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # in the last bytes of a complete file
_END_BYTES = 64
# What Pillow's decoders raise on damaged files; PIL.UnidentifiedImageError is an OSError.
_DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    KeyError,
    IndexError,
    EOFError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def read_image(
    path: str | Path, annotated_size_px: tuple[int, int] | None = None
) -> UInt8[Tensor, "3 H W"]:
    """Read an image file as RGB, turned upright by its EXIF orientation.

    `annotated_size_px` is the annotated (height, width). If only the stored size fits it, the
    annotations ignore EXIF, and the image is not turned. Alpha is dropped, 16 bits become 8, and
    the first frame of an animation is read. Raises DataError when the file cannot be read
    completely, has more pixels than Pillow's limit, or another shape than the annotated one.
    """
    try:
        # Read in one go: Pillow itself would make dozens of small reads.
        with Image.open(BytesIO(Path(path).read_bytes())) as image:
            _check_pixel_limit(image)
            pixels = _pixels(image, upright=_needs_turning(image, annotated_size_px))
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error
    size_px = (pixels.shape[1], pixels.shape[2])
    if annotated_size_px is not None and not _same_shape(size_px, annotated_size_px):
        raise DataError(
            f"{path}: is {size_px[0]}×{size_px[1]} pixels (height × width), but annotated as "
            f"{annotated_size_px[0]}×{annotated_size_px[1]}; correct the annotation or the file"
        )
    return pixels


def from_pillow(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """Return a Pillow image as RGB, turned upright by its EXIF orientation, as `read_image` does.

    Raises DataError when it cannot be decoded.
    """
    try:
        return _pixels(image, upright=True)
    except _DECODING_ERRORS as error:
        raise _unreadable(f"the given {image.mode} image", error) from error


def read_size_px(path: str | Path) -> tuple[int, int]:
    """Return the upright (height, width) of an image file, from its header alone.

    Raises DataError when it is not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            return (width, height) if _sideways(image) else (height, width)
    except _DECODING_ERRORS as error:
        raise _unreadable(path, error) from error


def is_complete(path: str | Path, annotated_size_px: tuple[int, int]) -> bool:
    """Return whether a file begins and ends like a complete image of the annotated size.

    A quick test: `read_image` may still read a file that fails it. Only the end markers of JPEG
    and PNG are checked.
    """
    try:
        with Path(path).open("rb") as file, Image.open(file) as image:
            _check_pixel_limit(image)
            stored_px, last = (image.height, image.width), _END_MARKERS.get(image.format or "", b"")
            file.seek(max(file.seek(0, SEEK_END) - _END_BYTES, 0))
            return stored_px in (annotated_size_px, annotated_size_px[::-1]) and last in file.read()
    except _DECODING_ERRORS:
        return False


def size_for_annotations(
    path: str | Path, annotated_size_px: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the (height, width) that boxes refer to: the annotated size, if the file can have it.

    Otherwise, and where nothing is annotated, it is the file's upright size, from its header. A
    file with a damaged header keeps the annotated size, and `read_image` reports the damage; raises
    DataError where there is no annotated size.
    """
    try:
        with Image.open(path) as image:
            stored_px = (image.height, image.width)
            upright_px = stored_px[::-1] if _sideways(image) else stored_px
    except _DECODING_ERRORS as error:
        if annotated_size_px is None:
            raise _unreadable(path, error) from error
        return annotated_size_px
    if annotated_size_px is None:
        return upright_px
    fits = annotated_size_px == stored_px or _same_shape(upright_px, annotated_size_px)
    return annotated_size_px if fits else upright_px


def _pixels(image: Image.Image, upright: bool) -> UInt8[Tensor, "3 H W"]:
    # exif_transpose copies the image even where there is nothing to turn.
    turned = upright and image.getexif().get(_EXIF_ORIENTATION, 1) != 1
    rgb = _to_rgb(ImageOps.exif_transpose(image) if turned else image)
    # A channels-last view: torchvision resizes such uint8 images fastest.
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def _needs_turning(image: Image.Image, annotated_size_px: tuple[int, int] | None) -> bool:
    stored = (image.height, image.width)
    upright = stored[::-1] if _sideways(image) else stored
    return annotated_size_px is None or upright == annotated_size_px or stored != annotated_size_px


def _sideways(image: Image.Image) -> bool:
    return image.getexif().get(_EXIF_ORIENTATION) in _SIDEWAYS


def _check_pixel_limit(image: Image.Image) -> None:
    # Pillow itself only warns up to twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(
            f"{image.width}×{image.height} pixels, but PIL.Image.MAX_IMAGE_PIXELS allows {limit}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # 16-bit gray: Pillow's own conversion would clip every value above 255 to white.
        gray = np.asarray(image).astype(np.int64).clip(0, 65535) // 257
        return Image.fromarray(gray.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 bits")
    if image.mode in ("P", "PA", "La", "RGBa"):
        # Pillow converts these to RGB directly only by ignoring palette or premultiplied alpha.
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("RGB")


def _same_shape(size_px: tuple[int, int], annotated_size_px: tuple[int, int]) -> bool:
    """Return whether one size is the other scaled, up to rounding to whole pixels."""
    if size_px == annotated_size_px:
        return True
    (height, width), (other_height, other_width) = size_px, annotated_size_px
    return abs(height * other_width - width * other_height) <= max(
        height, width, other_height, other_width
    )


def _unreadable(path: str | Path, error: Exception) -> DataError:
    # Pillow names the BytesIO object, which tells a user nothing.
    text = re.sub(r" (<_io\.BytesIO[^>]*>|'[^']*')$", "", str(error))
    reason = " ".join(text.split()) or type(error).__name__
    return DataError(f"{path}: cannot be read as an image ({reason}); replace or remove the file")
