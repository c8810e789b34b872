"""Image files of each kind are read correctly, or refused by name."""

import errno
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.images.decoding import is_complete, limit_pixels, read_header, read_size_px
from setmatch.data.images.image_io import read_image
from setmatch.errors import ConfigError, DataError
from special_files import SPECIAL

from .orientations import STORED

RED_GREEN = np.zeros((4, 6, 3), dtype=np.uint8)
RED_GREEN[:, :3, 0] = 255
RED_GREEN[:, 3:, 1] = 255


def saved(path: Path, pixels: np.ndarray, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, exif=exif)
    return path


def as_array(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int):
    """rf-detr #189: however a camera stored it, an image is upright."""
    path = saved(tmp_path / "a.png", STORED[orientation](RED_GREEN), orientation)
    assert np.array_equal(as_array(read_image(path)), RED_GREEN)
    assert read_size_px(path) == (4, 6)


def test_exif_is_ignored_where_annotations_fit_only_the_stored_file(tmp_path: Path):
    path = saved(tmp_path / "a.png", STORED[6](RED_GREEN), 6)
    assert read_image(path, (6, 4)).shape == (3, 6, 4)
    assert read_image(path, (4, 6)).shape == (3, 4, 6)


def test_a_square_image_is_turned_as_exif_says(tmp_path: Path):
    square = RED_GREEN[:, 1:5]
    path = saved(tmp_path / "a.png", STORED[3](square), 3)
    assert np.array_equal(as_array(read_image(path, (4, 4))), square)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_color_modes_keep_their_colors(tmp_path: Path, mode: str):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(RED_GREEN).convert(mode).save(path)
    assert np.abs(as_array(read_image(path)).astype(int) - RED_GREEN).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_gray_modes_become_equal_channels(tmp_path: Path, mode: str):
    gray = np.full((4, 6), 255, dtype=np.uint8)
    gray[:2] = 0
    Image.fromarray(gray).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(as_array(read_image(tmp_path / "a.png")), np.stack([gray] * 3, axis=-1))


def test_sixteen_bits_become_eight(tmp_path: Path):
    """The full range maps to 0..255; nothing is clipped to white."""
    wide = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[0, 1, 128, 255]]


def test_transparent_palette_keeps_its_colors(tmp_path: Path):
    image = Image.fromarray(RED_GREEN).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes([0] * 256))
    assert np.array_equal(as_array(read_image(tmp_path / "a.png")), RED_GREEN)


def test_an_animation_is_its_first_frame(tmp_path: Path):
    frames = [Image.fromarray(np.full((4, 6, 3), value, np.uint8)) for value in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").max() == 0


def test_the_content_counts_not_the_extension(tmp_path: Path):
    saved(tmp_path / "a.png", RED_GREEN).rename(tmp_path / "a.jpg")
    assert np.array_equal(as_array(read_image(tmp_path / "a.jpg")), RED_GREEN)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_thin_and_tiny_images_are_read(tmp_path: Path, size: tuple[int, int]):
    Image.new("RGB", size[::-1]).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", size).shape == (3, *size)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("<html>not found</html>"),
        lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 50),
        lambda path: path.mkdir(),
        lambda path: None,
        lambda path: Image.fromarray(np.zeros((3, 3), np.float32)).save(path, "TIFF"),
    ],
    ids=["empty", "text", "only a header", "folder", "missing", "floating point"],
)
def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path: Path, make):
    path = tmp_path / "broken.jpg"
    make(path)
    with pytest.raises(DataError, match=r"broken\.jpg") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def pixel_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores the limit, which is one of the process."""
    monkeypatch.setenv("SETMATCH_MAX_PIXELS", "")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [1, 790, 800, 1599])
def test_an_image_over_the_pixel_limit_is_refused_before_decoding(
    tmp_path: Path, pixel_limit: None, limit: int
):
    """Below twice the limit, where Pillow only warns, too; the message says what to do."""
    Image.new("L", (40, 40)).save(tmp_path / "bomb.png")
    limit_pixels(limit)
    with pytest.raises(DataError, match=r"bomb\.png.*; make it smaller.*--max-pixels") as caught:
        read_image(tmp_path / "bomb.png")
    assert f"the limit is {limit:,} pixels" in str(caught.value)


def test_a_higher_pixel_limit_holds_in_started_processes_too(tmp_path: Path, pixel_limit: None):
    """Above twice Pillow's limit, where Pillow itself refuses."""
    Image.new("1", (15_000, 12_000)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="--max-pixels"):
        read_size_px(tmp_path / "large.png")
    limit_pixels(180_000_000)
    assert read_size_px(tmp_path / "large.png") == (12_000, 15_000)
    ask = "from setmatch.data.images import decoding; print(decoding.Image.MAX_IMAGE_PIXELS)"
    shown = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert shown.stdout == "180000000\n"


@pytest.mark.parametrize("pixels", [0, -1])
def test_a_pixel_limit_below_one_is_refused(pixel_limit: None, pixels: int):
    with pytest.raises(ConfigError, match="at least one pixel"):
        limit_pixels(pixels)


def test_a_file_larger_than_any_image_of_the_limit_is_not_read(tmp_path: Path):
    """It takes no space on the disk, but would take the memory."""
    with (tmp_path / "a.webp").open("wb") as file:
        file.write(b"RIFF\0\0\0\x7fWEBPVP8 ")
        file.truncate(1 << 42)
    with pytest.raises(DataError, match=r"a\.webp.*4,398,046,511,104 bytes; the limit"):
        read_image(tmp_path / "a.webp")


ERRORS = [
    *(RuntimeError("AVIF decode failed"), MemoryError(), RecursionError("too deep")),
    *(AssertionError(), AttributeError("fp"), BufferError("view"), UserWarning("corrupt")),
    *(UnicodeDecodeError("ascii", b"\xff", 0, 1, "no"), StopIteration(), LookupError("codec")),
    *(ArithmeticError(), TimeoutError(), EOFError(), ZeroDivisionError(), OverflowError()),
    *(Exception("of a plugin"), type("OfItsOwn", (Exception,), {})("a decoder's own")),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("read", [read_image, read_size_px, read_header])
def test_whatever_a_decoder_raises_is_an_error_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, read
):
    """A damaged AVIF raised RuntimeError, which ended the whole run."""
    path = saved(tmp_path / "a.png", RED_GREEN)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image") as caught:
        read(path)
    assert "()" not in str(caught.value), "the reason is never empty"
    assert not is_complete(path, (4, 6))


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), SystemExit(2), OSError(errno.EMFILE, "Too many open files")],
    ids=lambda error: type(error).__name__,
)
def test_errors_of_the_process_are_no_errors_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
):
    path = saved(tmp_path / "a.png", RED_GREEN)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(type(error)) as caught:
        read_image(path)
    assert caught.value is error


def test_a_file_that_a_program_would_decode_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", run)
    monkeypatch.setattr(subprocess, "Popen", run)
    saved(tmp_path / "a.eps", RED_GREEN).rename(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="cannot identify"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("read", [read_image, read_size_px, read_header])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, read):
    SPECIAL[kind](tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image \((is |Is a dir)"):
        read(tmp_path / "a.png")
    assert not is_complete(tmp_path / "a.png", (4, 6))


def test_an_image_of_another_shape_than_annotated_is_refused(tmp_path: Path):
    """A scaled copy is fine."""
    path = saved(tmp_path / "a.png", RED_GREEN)
    assert read_image(path, (400, 600)).shape == (3, 4, 6)
    with pytest.raises(DataError, match=r"a\.png: cannot .* annotated image \(is 4×6 pixels"):
        read_image(path, (400, 900))


Image.init()  # AVIF and others are not in every Pillow
NOISE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
FUZZED = {
    form: BytesIO()
    for form in (
        *("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "PCX", "ICO", "SGI"),
        *("DDS", "JPEG2000", "MPO", "AVIF", "QOI"),
    )
    if form in Image.SAVE
}
for form, buffer in FUZZED.items():
    Image.fromarray(NOISE).save(buffer, form)


def _without(content: bytearray, at: int, length: int) -> None:
    del content[at : at + length]


def _repeat(content: bytearray, at: int, length: int) -> None:
    content[at:at] = content[at : at + length]


def _extreme(content: bytearray, at: int, length: int) -> None:
    content[at : at + 4] = (0, 1, 2**16 - 1, 2**31 - 1, 2**32 - 1)[length % 5].to_bytes(4, "big")


def _flip(content: bytearray, at: int, length: int) -> None:
    content[at] ^= 1 + length % 255


@pytest.mark.promise(20)
@given(
    form=st.sampled_from([*FUZZED]),
    cut=st.floats(0.2, 1),
    edits=st.lists(
        st.tuples(
            st.sampled_from([_without, _repeat, _extreme, _flip]),
            st.floats(0, 1) | st.floats(0, 0.1),  # most fields are in the head
            st.integers(1, 300),
        ),
        max_size=6,
    ),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_raise_a_data_error(tmp_path_factory, form, cut, edits):
    """Promise 20, for images: no other exception, and no pixels beyond the limit."""
    content = bytearray(FUZZED[form].getvalue())
    for edit, place, length in edits:
        edit(content, int(place * (len(content) - 1)), length)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: int(cut * len(content))])
    with patch.object(Image, "MAX_IMAGE_PIXELS", 100_000):
        is_complete(path, (24, 32))
        try:
            header, image = read_header(path), read_image(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            return
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert image[0].numel() <= 100_000
    assert header.format
