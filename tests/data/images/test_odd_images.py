"""More than 200 odd image files: each is read correctly, or refused by name."""

import json
import struct
import zlib
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from PIL import __version__ as PILLOW

from fake_detectors import RedFinder
from setmatch.data.images.image_io import read_image
from setmatch.errors import DataError
from setmatch.inference.predict_folder import predict_folder
from setmatch.structures.batch import Batch
from setmatch.structures.outputs import PredictionGroup, Predictions
from special_files import SPECIAL

from .orientations import STORED

# Four quarters of different colors: every rotation and reflection looks different.
EXPECTED = np.zeros((32, 48, 3), dtype=np.uint8)
EXPECTED[:16, :24] = (220, 30, 30)
EXPECTED[:16, 24:] = (30, 200, 30)
EXPECTED[16:, :24] = (30, 30, 210)
EXPECTED[16:, 24:] = (240, 240, 240)
GRAY = np.asarray(Image.fromarray(EXPECTED).convert("L"))
GRAYS = np.stack([GRAY] * 3, axis=-1)

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"} | {
    "WEBP": ".webp"
}
EXACT: dict[str, dict[str, object]] = {"JPEG": {"quality": 95, "subsampling": 0}} | {
    "WEBP": {"lossless": True}
}


def content(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **(EXACT.get(form, {}) | options))
    return buffer.getvalue()


def encoded(form: str = "PNG", **options: object) -> bytes:
    return content(Image.fromarray(EXPECTED), form, **options)


def turned(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](EXPECTED)))
    return content(stored, form, exif=exif)


def frames(form: str) -> bytes:
    later = [Image.fromarray(255 - EXPECTED)] * 2
    return encoded(form, save_all=True, append_images=later)


def png_of(width: int, height: int, bits: int, color: int, rows: bytes) -> bytes:
    """Return a PNG with a header and rows that Pillow would not write."""
    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def png_that_claims(width: int, height: int) -> bytes:
    """Return a few bytes whose header promises many pixels."""
    return png_of(width, height, 8, 0, b"\0" * 100)


def png_of_16_bits() -> bytes:
    """Return a color PNG with two bytes per channel."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in EXPECTED)
    return png_of(48, 32, 16, 2, rows)


def cut(form: str, fraction: float) -> bytes:
    whole = encoded(form)
    return whole[: int(fraction * len(whole))]


def bmp_that_claims(side: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 1, 1, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


# File name: content of the file, and the image it shows.
SHOWN: dict[str, tuple[bytes, np.ndarray]] = {}
for form, way in product(("JPEG", "PNG", "WEBP", "TIFF"), STORED):
    SHOWN[f"orientation {way}{FORMATS[form]}"] = (turned(form, way), EXPECTED)
for form, suffix in product(FORMATS, (*FORMATS.values(), ".JPG", "")):
    SHOWN[f"{form} called{suffix}"] = (encoded(form), EXPECTED)
for mode, form in (
    *product(("RGBA", "P", "RGB"), ("PNG", "TIFF")),
    *product(("P", "RGB"), ("GIF", "BMP")),
    *(("CMYK", "TIFF"), ("RGBA", "WEBP"), ("CMYK", "JPEG")),
):
    whole = Image.fromarray(EXPECTED)
    image = whole.quantize(8) if mode == "P" else whole.convert(mode)
    SHOWN[f"{mode}{FORMATS[form]}"] = (content(image, form), EXPECTED)
for mode, form in (
    *product(("L", "LA"), ("PNG", "TIFF")),
    *product(("L",), ("JPEG", "BMP", "GIF")),
):
    SHOWN[f"{mode}{FORMATS[form]}"] = (content(Image.fromarray(GRAY).convert(mode), form), GRAYS)
for form in ("PNG", "TIFF"):
    wide = Image.fromarray(GRAY.astype(np.uint16) * 257)
    SHOWN[f"16 bits{FORMATS[form]}"] = (content(wide, form), GRAYS)
SHOWN["16 bits in color.png"] = (png_of_16_bits(), EXPECTED)
for form in ("GIF", "PNG", "TIFF", "WEBP"):
    SHOWN[f"animated{FORMATS[form]}"] = (frames(form), EXPECTED)
for (height, width), form in product(
    [(1, 1), (1, 2), (3, 1), (1, 20000), (20000, 1)], ("PNG", "BMP", "TIFF")
):
    flat = np.full((height, width, 3), 7, dtype=np.uint8)
    SHOWN[f"{height}x{width}{FORMATS[form]}"] = (content(Image.fromarray(flat), form), flat)
for name, options in {
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "a comment": {"comment": b"\xff\xfe not text"},
    "restarts": {"restart_marker_blocks": 1},
    "a broken profile": {"icc_profile": b"\0" * 50},
    "broken EXIF": {"exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff\xff"},
    "half of EXIF": {"exif": b"Exif\0\0MM\0*"},
    "EXIF of noise": {"exif": b"Exif\0\0" + bytes(range(200))},
}.items():
    SHOWN[f"{name}.jpg"] = (encoded("JPEG", **options), EXPECTED)
for name in ("mit Leerzeichen", "ünïcödé", "50%", "#1", "a;b", "日本", "x" * 200):
    SHOWN[f"{name}.png"] = (encoded(), EXPECTED)
SHOWN["trailing noise.jpg"] = (encoded("JPEG") + b"\0noise" * 99, EXPECTED)

REFUSED: dict[str, bytes] = {
    "empty.jpg": b"",
    "a byte.jpg": b"\xff",
    "text.jpg": b"not an image",
    "a page.jpg": b"<!doctype html><title>404</title>",
    "a document.jpg": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "an archive.jpg": b"PK\x03\x04" + b"\0" * 60,
    "a pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "zeros.png": b"\0" * 4096,
    "a head alone.jpg": b"\xff\xd8\xff\xe0" + b"\0" * 50,
    "a drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a film.jpg": b"\0\0\0 ftypisom" + b"\0" * 60,
    "no pixels.png": png_that_claims(0, 0),
    "a bomb.png": png_that_claims(60_000, 60_000),
    "a wide bomb.png": png_that_claims(2**31 - 1, 1),
    "a bomb.bmp": bmp_that_claims(50_000),
    "a lie.png": png_that_claims(600, 400),
    "floating point.tif": content(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"),
}
CUT = {
    f"{form} cut at {fraction:.0%}{suffix}": cut(form, fraction)
    for (form, suffix), fraction in product(FORMATS.items(), np.linspace(0.02, 0.98, 13).tolist())
}


def damaged(content: bytes, seed: int) -> bytes:
    """Return a file of which a hundredth of the bytes are others."""
    rng = np.random.default_rng(seed)
    changed = bytearray(content)
    for place in rng.integers(0, len(content), max(len(content) // 100, 2)).tolist():
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


# Before Pillow 13, an uncompressed TIFF file of this mode is taken for a truncated one.
YCBCR = content(Image.fromarray(EXPECTED).convert("YCbCr"), "TIFF")
if int(PILLOW.partition(".")[0]) < 13:
    REFUSED["YCbCr.tif"] = YCBCR
else:
    SHOWN["YCbCr.tif"] = (YCBCR, EXPECTED)
if features.check("avif"):  # since Pillow 11.3
    AVIF = {"quality": 95, "subsampling": "4:4:4"}
    SHOWN["plain.avif"] = (encoded("AVIF", **AVIF), EXPECTED)
    transparent = Image.fromarray(EXPECTED).convert("RGBA")
    SHOWN["RGBA.avif"] = (content(transparent, "AVIF", **AVIF), EXPECTED)
    SHOWN["called AVIF.jpg"] = (encoded("AVIF", **AVIF), EXPECTED)
    FORMATS = {**FORMATS, "AVIF": ".avif"}
    CUT |= {
        f"AVIF cut at {fraction:.0%}.avif": cut("AVIF", fraction)
        for fraction in np.linspace(0.02, 0.98, 13).tolist()
    }
DAMAGED = {
    f"{form} damaged {seed}{suffix}": damaged(encoded(form), seed)
    for (form, suffix), seed in product(FORMATS.items(), range(8))
}


def test_there_are_more_than_two_hundred_files():
    kinds = (SHOWN, REFUSED, CUT, DAMAGED)
    assert len({name for kind in kinds for name in kind}) == sum(map(len, kinds)) >= 250


@pytest.mark.promise(10)
@pytest.mark.parametrize("name", SHOWN)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_readable_files_are_read_correctly(tmp_path: Path, name: str):
    """Upright, in color, the first frame, whatever the file is called; JPEG within its losses."""
    data, shown = SHOWN[name]
    (tmp_path / name).write_bytes(data)
    pixels = read_image(tmp_path / name).permute(1, 2, 0).numpy().astype(int)
    assert pixels.shape == shown.shape
    assert np.abs(pixels - shown).mean() < 3


@pytest.mark.promise(10)
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_files_that_are_not_images_are_refused_by_name(tmp_path: Path, name: str):
    """In one line, before pixels that do not exist take memory."""
    (tmp_path / name).write_bytes(REFUSED[name])
    with pytest.raises(DataError, match="cannot be read as an image") as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.promise(10)
@pytest.mark.parametrize("name", CUT)
@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
def test_truncated_files_are_complete_or_refused(tmp_path: Path, name: str):
    """Only an end that no pixel needs may be missing."""
    (tmp_path / name).write_bytes(CUT[name])
    pixels, problem = None, ""
    try:
        pixels = read_image(tmp_path / name).permute(1, 2, 0).numpy().astype(int)
    except DataError as error:
        problem = str(error)
    if pixels is None:
        assert problem.startswith(f"{tmp_path / name}: ")
    else:
        assert np.abs(pixels - EXPECTED).mean() < 3


@pytest.mark.promise(10)
@pytest.mark.parametrize("kind", ["folder", "missing", "link to nothing", "link to itself"])
def test_paths_that_are_not_files_are_refused_by_name(tmp_path: Path, kind: str):
    path = tmp_path / "a.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to(path if kind == "link to itself" else tmp_path / "nothing.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read"):
        read_image(path)


class Calm(RedFinder):
    """Finds the middle of every image."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        logits = torch.tensor([[5.0, -5.0, 0.0]]).expand(1, len(batch.pixels), 1, 3)
        middle = torch.full((1, len(batch.pixels), 1, 4), 0.5)
        return (PredictionGroup("main", Predictions(logits, middle)),)


@pytest.mark.timeout(200)
@pytest.mark.filterwarnings("ignore")
def test_predict_on_a_folder_of_all_names_each_that_it_does_not_read(tmp_path: Path):
    """Promise 10: no file ends the others, hangs, or is passed over, special files neither."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()

    def named(name: str) -> str:  # in a folder, the suffix tells what is an image
        return name if "." in name else f"{name}.png"

    readable = {named(name): content for name, (content, _) in SHOWN.items()}
    unknown = {named(name): content for name, content in (CUT | DAMAGED).items()}
    for name, content in (readable | REFUSED | unknown).items():
        (folder / name).write_bytes(content)
    for kind, make in SPECIAL.items():
        make(folder / f"{kind}.jpg")
    special = {f"{kind}.jpg" for kind in SPECIAL if kind != "folder"}
    summary = predict_folder(Calm(), [folder], out, progress=False)
    failed = {path.name: problem for path, problem in summary.failed}
    rows = json.loads((out / "detections.json").read_text("utf-8"))
    found = {row["file_name"] for row in rows}
    assert {*readable} <= found
    assert {*REFUSED} | special <= {*failed}
    assert found | {*failed} == {*readable} | {*REFUSED} | {*unknown} | special
    assert not found & {*failed}
    assert summary.images == len(found) == len([*(out / "drawn").iterdir()])
    for name, problem in failed.items():
        assert problem.startswith(f"{folder / name}: cannot be read as an image (")
        assert "\n" not in problem
