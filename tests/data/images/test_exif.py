"""Every orientation is found, and no pixel is decoded where the header tells it."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from setmatch.data.images.decoding import read_header, read_size_px
from setmatch.data.images.exif import orientation_of
from setmatch.data.images.image_io import read_image


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a PNG, 6 wide and 4 high, with chunks before and after its pixels."""
    buffer = BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, "PNG")
    content = buffer.getvalue()
    pixels, end = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    return content[:pixels] + before + content[pixels:end] + after + content[end:]


def raw_profile(orientation: int) -> bytes:
    """Return the text in which ImageMagick keeps EXIF."""
    data = b"Exif\0\0" + exif_of(orientation).removeprefix(b"Exif\0\0")
    text = f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


PLACES = {
    "EXIF": lambda orientation: chunk(b"eXIf", exif_of(orientation).removeprefix(b"Exif\0\0")),
    "a text": raw_profile,
    "a comment first": lambda orientation: (
        chunk(b"tEXt", b"Comment\0none") + PLACES["EXIF"](orientation)
    ),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_the_orientation_of_a_png_is_found_wherever_it_is(
    tmp_path: Path, place: str, where: str, orientation: int
):
    path = tmp_path / "a.png"
    path.write_bytes(png(**{where: PLACES[place](orientation)}))
    size_px = (6, 4) if orientation > 4 else (4, 6)
    assert read_header(path).orientation == orientation
    assert read_size_px(path) == tuple(read_image(path).shape[1:]) == size_px


@pytest.mark.parametrize("before", [b"", PLACES["EXIF"](6), raw_profile(6)])
def test_no_pixel_is_decoded_for_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
):
    """Pillow decodes a PNG to look for EXIF behind its pixels, which takes most of the time."""
    path = tmp_path / "a.png"
    path.write_bytes(png(before))

    def load(image: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert read_size_px(path) == ((6, 4) if before else (4, 6))


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_there_is_not_is_none(value: int):
    assert orientation_of(Image.open(BytesIO(png(PLACES["EXIF"](value))))) == 1


def test_a_png_that_ends_early_has_no_orientation():
    content = png()
    for end in range(content.index(b"IDAT") + 4, len(content)):
        assert orientation_of(Image.open(BytesIO(content[:end]))) == 1
