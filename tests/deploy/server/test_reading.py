"""Images of strangers: upright, and never larger than they may be."""

from collections.abc import Callable
from functools import partial

import pytest

from setmatch.data.images import decoding
from setmatch.deploy.server.limits import Refusal
from setmatch.deploy.server.reading import FORMATS, MOST_SCANS, read_upload

from .bombs import header_of, jpeg_of_scans, png_of, saved
from .conftest import image_bytes

MOST = 10_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_photographs_are_read(kind: str):
    assert read_upload(image_bytes(kind=kind), MOST).shape == (64, 96, 3)


@pytest.mark.parametrize("kind", ["PPM", "PCX", "TGA", "SGI", "JPEG2000", "ICO", "DDS"])
def test_seldom_formats_are_not_even_tried(kind: str):
    """Their decoders would be one more thing to attack."""
    with pytest.raises(Refusal, match="not an image that can be read here") as caught:
        read_upload(image_bytes(kind=kind), MOST)
    assert caught.value.status == 422
    assert kind not in FORMATS


@pytest.mark.parametrize(("width", "height"), [(100, 100), (101, 100), (1, 10_001), (10_000, 1)])
def test_the_limit_of_pixels_is_exact(width: int, height: int):
    image = image_bytes((0, 0, 1, 1), (width, height))
    if width * height <= MOST:
        assert read_upload(image, MOST).shape == (height, width, 3)
        return
    with pytest.raises(Refusal, match=r"limit is 10,000 pixels") as caught:
        read_upload(image, MOST)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "bomb",
    [
        partial(png_of, 20_000, 20_000),
        partial(saved, "TIFF", 10_000, 10_000),
        partial(saved, "WEBP", 16_000, 1000),
        partial(header_of, "BMP", 60_000, 60_000),
        partial(header_of, "GIF", 60_000, 60_000),
        partial(header_of, "PNG", 2**31 - 1, 2**31 - 1),
        partial(header_of, "PNG", 2**31 - 1, 1),
    ],
    ids=["png", "tiff", "webp", "bmp header", "gif header", "png header", "png line"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header(bomb: Callable[[], bytes], monkeypatch):
    """Before any of its pixels is decoded."""
    content = bomb()
    monkeypatch.setattr(decoding, "_pixels", None)
    with pytest.raises(Refusal, match="pixels") as caught:
        read_upload(content, 1_000_000)
    assert caught.value.status == 413
    assert len(content) < 100_000


def test_a_file_of_many_scans_is_refused(monkeypatch):
    """Each takes a pass over all pixels: a few bytes could keep a processor busy for hours."""
    assert read_upload(jpeg_of_scans(5), MOST).shape == (64, 64, 3)
    monkeypatch.setattr(decoding, "_pixels", None)
    with pytest.raises(Refusal, match="scans"):
        read_upload(jpeg_of_scans(MOST_SCANS), MOST)
