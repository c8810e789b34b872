"""Decode image files as upright uint8 RGB arrays; nothing here needs torch.

Any exception of a decoder on a damaged file becomes a DataError that names the file. Only regular
files are opened, and no program is started.
"""

import errno
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import SEEK_END, BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from setmatch.data.images.bit_depth import (
    Depth,
    depth_of,
    is_gray_of_16_bits,
    stretched_color,
    to_8_bits,
)
from setmatch.data.images.exif import orientation_of
from setmatch.data.images.heif import register_heif
from setmatch.data.images.image_paths import RAW_SUFFIXES, is_undecoded
from setmatch.data.images.unreadable import UnreadableError, UnreadableFile, undecoded
from setmatch.errors import ConfigError, DataError
from setmatch.files.reading import open_regular

_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706  # tags of TIFF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that swap height and width
_END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}  # in the last bytes of a complete file
_END_BYTES = 64
_MAX_PIXELS = "SETMATCH_MAX_PIXELS"  # environment variable, which spawned processes inherit
_READ_AT_ONCE = 1 << 26  # bytes
_BYTES_PER_PIXEL = 16  # at most, for the first frame of any uncompressed format
_RUN_PROGRAMS = ("EPS", "WMF")  # formats that Pillow hands to a program outside, such as gs
# Errors of the process, which every further image would meet. KeyboardInterrupt and SystemExit are
# no Exception. All others are of the image that is read, MemoryError too.
_OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says about itself; `size_px` is the stored (height, width)."""

    format: str
    mode: str  # of Pillow
    size_px: tuple[int, int]
    orientation: int  # by EXIF, 1 if there is none
    animated: bool  # or has several pages


def limit_pixels(pixels: int) -> None:
    """Let images have up to this many pixels, in this process and in all that it starts.

    The default is Pillow's own limit of 89 million. Raises ConfigError for a number below 1.
    """
    if pixels < 1:
        raise ConfigError(f"max_pixels = {pixels}: an image has at least one pixel")
    os.environ[_MAX_PIXELS] = str(pixels)
    Image.MAX_IMAGE_PIXELS = pixels


def chosen_pixel_limit() -> int | None:
    """Return the number of pixels that the user allows; None where it is the default."""
    text = os.environ.get(_MAX_PIXELS)
    return int(text) if text else None


def _limit_by_environment() -> None:
    text = os.environ.get(_MAX_PIXELS, "")
    if not text:
        return
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{_MAX_PIXELS}={text}: give a number of pixels, such as 200000000")
    limit_pixels(int(text))


_limit_by_environment()


def read_pixels(
    path: str | Path, annotated_size_px: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file as RGB, turned upright by its EXIF orientation.

    `annotated_size_px` is the annotated (height, width). If only the stored size fits it, the
    annotations ignore EXIF, and the image is not turned. Alpha is dropped, 16 bits become 8 (by the
    bits that are used), and the first frame of an animation is read. Raises DataError when the file
    cannot be read completely, has more pixels than `limit_pixels` allows, or another shape than the
    annotated one.
    """
    with _decoding(path), open_regular(path) as file, _opened(path, _in_memory(file)) as image:
        _check_pixel_limit(image)
        # First, since EXIF may only come after the pixels of a PNG, which are then decoded.
        decoded = stretched_color(image) or image
        pixels = _pixels(decoded, upright=_needs_turning(decoded, annotated_size_px))
    size_px = (pixels.shape[0], pixels.shape[1])
    if annotated_size_px is not None and not _same_shape(size_px, annotated_size_px):
        raise UnreadableError(other_size(path, size_px, annotated_size_px))
    return pixels


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    """Return a Pillow image as RGB, turned upright by its EXIF orientation, as `read_pixels` does.

    Raises DataError when it cannot be decoded.
    """
    with _decoding(f"the given {image.mode} image"):
        return _pixels(stretched_color(image) or image, upright=True)


def decode_pixels(
    content: bytes, source: str, formats: Collection[str] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the pixels of an image file's content, as `read_pixels` does.

    `formats` are the names that Pillow gives to those which are accepted; None stands for all.
    Raises DataError, which names the `source`, when it cannot be decoded completely.
    """
    with _decoding(source), _opened(source, BytesIO(content), formats) as image:
        _check_pixel_limit(image)
        return _pixels(stretched_color(image) or image, upright=True)


def read_header(path: str | Path) -> ImageHeader:
    """Return what the header of an image file says; raises DataError when it is not an image."""
    with _decoding(path), open_regular(path) as file, _opened(path, file) as image:
        return _header(image)


def decode_header(content: bytes, source: str, formats: Collection[str]) -> ImageHeader:
    """Return what the header of an image file's content says.

    `formats` are those of `decode_pixels`. Raises DataError, which names the `source`, when it is
    none of them.
    """
    with _decoding(source), _opened(source, BytesIO(content), formats) as image:
        return _header(image)


def read_depth(path: str | Path) -> Depth | None:
    """Return how an image of 16 bits a channel is read; None for any other image.

    Raises DataError when the image cannot be decoded.
    """
    with _decoding(path), open_regular(path) as file, _opened(path, _in_memory(file)) as image:
        _check_pixel_limit(image)
        return depth_of(image)


def read_size_px(path: str | Path) -> tuple[int, int]:
    """Return the upright (height, width) of an image file, from its header alone.

    Raises DataError when it is not an image.
    """
    return _sizes_px(path)[1]


def is_complete(path: str | Path, annotated_size_px: tuple[int, int]) -> bool:
    """Return whether a file begins and ends like a complete image of the annotated size.

    A quick test: `read_pixels` may still read a file that fails it. Formats other than JPEG and PNG
    have no end marker, so that their files fail it.
    """
    try:
        with _decoding(path), open_regular(path) as file, _opened(path, file) as image:
            _check_pixel_limit(image)
            stored_px, last = (image.height, image.width), _END_MARKERS.get(image.format or "")
            if last is None or stored_px not in (annotated_size_px, annotated_size_px[::-1]):
                return False
            file.seek(max(file.seek(0, SEEK_END) - _END_BYTES, 0))
            return last in file.read()
    except DataError:
        return False


def size_for_annotations(
    path: str | Path, annotated_size_px: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the (height, width) that boxes refer to: the annotated size, if the file can have it.

    Otherwise, and where nothing is annotated, it is the file's upright size, from its header. A
    file with a damaged header keeps the annotated size, and `read_pixels` reports the damage;
    raises DataError where there is no annotated size.
    """
    try:
        stored_px, upright_px = _sizes_px(path)
    except DataError:
        if annotated_size_px is None:
            raise
        return annotated_size_px
    if annotated_size_px is None:
        return upright_px
    fits = annotated_size_px == stored_px or _same_shape(upright_px, annotated_size_px)
    return annotated_size_px if fits else upright_px


def _sizes_px(path: str | Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the stored and the upright (height, width) of a file, from its header alone."""
    with _decoding(path), open_regular(path) as file, _opened(path, file) as image:
        stored_px = (image.height, image.width)
        return stored_px, stored_px[::-1] if _sideways(image) else stored_px


@contextmanager
def _decoding(source: str | Path) -> Iterator[None]:
    """Turn every error of an image into a DataError that names its `source`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_PROCESS:
            raise
        raise UnreadableError(_unreadable(source, error)) from error


def _header(image: Image.Image) -> ImageHeader:
    return ImageHeader(
        image.format or "",
        image.mode,
        (image.height, image.width),
        orientation_of(image),
        _is_animated(image),
    )


def _opened(
    path: str | Path, file: BytesIO | BufferedReader, formats: Collection[str] | None = None
) -> Image.Image:
    """Open an image of some formats; None stands for all that run no program."""
    Image.init()
    register_heif()
    known = [name for name in Image.ID if name not in _RUN_PROGRAMS]
    image = Image.open(file, formats=[n for n in known if formats is None or n in formats])
    if image.format == "TIFF" and _is_preview(path, image):
        raise UnidentifiedImageError("only a preview of a camera's raw file")
    return image


def _is_preview(path: str | Path, image: Image.Image) -> bool:
    """Return whether a TIFF file is a camera's raw file, whose first image is a small preview."""
    tags = getattr(image, "tag_v2", {})
    is_reduced = bool(tags.get(_NEW_SUBFILE_TYPE, 0) & 1)
    return is_reduced or _DNG_VERSION in tags or Path(path).suffix.lower() in RAW_SUFFIXES


def _in_memory(file: BufferedReader) -> BytesIO | BufferedReader:
    """Return the content of a file, read in one go: Pillow itself would make many small reads.

    A large file is returned as it is. Raises ValueError for one that is too large for any image.
    """
    size = os.fstat(file.fileno()).st_size
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size > max(_BYTES_PER_PIXEL * limit, _READ_AT_ONCE):
        raise Image.DecompressionBombError(f"{size:,} bytes")
    return BytesIO(file.read(size)) if size <= _READ_AT_ONCE else file


def _pixels(image: Image.Image, upright: bool) -> UInt8[np.ndarray, "H W 3"]:
    if not (image.width and image.height):
        raise ValueError("it has no pixels")
    # exif_transpose copies the image even where there is nothing to turn.
    turned = upright and orientation_of(image) != 1
    return np.array(_to_rgb(ImageOps.exif_transpose(image) if turned else image))


def _needs_turning(image: Image.Image, annotated_size_px: tuple[int, int] | None) -> bool:
    stored = (image.height, image.width)
    upright = stored[::-1] if _sideways(image) else stored
    return annotated_size_px is None or upright == annotated_size_px or stored != annotated_size_px


def _is_animated(image: Image.Image) -> bool:
    # Some formats look for a second frame, which may be damaged. Only the first one is read.
    try:
        with _decoding("frames"):
            if not getattr(image, "is_animated", False):
                return False
            return image.format != "TIFF" or _has_further_page(image)
    except DataError:
        return True


def _has_further_page(image: Image.Image) -> bool:
    """Return whether a TIFF has a second image that is neither a smaller copy nor a mask."""
    for number in range(1, getattr(image, "n_frames", 1)):
        image.seek(number)
        if not getattr(image, "tag_v2", {}).get(_NEW_SUBFILE_TYPE, 0):
            return True
    return False


def _sideways(image: Image.Image) -> bool:
    return orientation_of(image) in _SIDEWAYS


def _check_pixel_limit(image: Image.Image) -> None:
    # Pillow itself only warns up to twice its limit.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width}×{image.height} pixels, width × height")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if is_gray_of_16_bits(image):
        # Pillow's own conversion would clip every value above 255 to white.
        return Image.fromarray(to_8_bits(np.asarray(image))).convert("RGB")
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


def other_size(
    path: str | Path,
    size_px: tuple[int, int],
    annotated_px: tuple[int, int],
    advice: str = "correct the annotation or the file",
) -> UnreadableFile:
    """Return a file that shows an image of another (height, width) than the annotated one."""
    sizes = "{}×{} pixels (height × width), but annotated as {}×{}".format(*size_px, *annotated_px)
    return UnreadableFile(str(path), f"is {sizes}", advice, "the annotated image")


def _unreadable(source: str | Path, error: Exception) -> UnreadableFile:
    if isinstance(error, UnidentifiedImageError) and is_undecoded(str(source)):
        return undecoded(source)
    file = UnreadableFile(str(source), _reason(error))
    if isinstance(error, Image.DecompressionBombError):
        reason = f"{file.reason.removesuffix('.')}; the limit is {Image.MAX_IMAGE_PIXELS:,} pixels"
        advice = "make it smaller, or allow more with --max-pixels (or setmatch.data.limit_pixels)"
        return replace(file, reason=reason, advice=advice)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return replace(file, reason="not enough memory", advice="make it smaller")
    return file


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # Pillow names the BytesIO object, which means nothing to a user.
    text = re.sub(r" <_io\.[^>]*>$", "", str(error))
    return " ".join(text.split()) or type(error).__name__
