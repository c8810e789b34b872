"""Sensors of 10, 12 and 14 bits in files of 16 are neither black nor clipped."""

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from setmatch.data.audit.audit import audit
from setmatch.data.images.bit_depth import to_8_bits, used_bits
from setmatch.data.images.image_io import from_pillow, read_image

SHADES = np.linspace(0, 1, 24 * 32).reshape(24, 32)
COLORS = np.stack([SHADES, SHADES[::-1], SHADES[:, ::-1] / 2], axis=-1)


def png(values: np.ndarray) -> bytes:
    """Return a PNG of 16 bits a channel, which Pillow writes for gray images only."""
    height, width, channels = values.shape
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def tiff(values: np.ndarray) -> bytes:
    """Return a TIFF of 16 bits a channel in color, which Pillow does not write."""
    height, width, channels = values.shape
    data = values.astype("<u2").tobytes()
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 200), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data))),
    ]
    head = b"II*\0" + struct.pack("<I", 16) + struct.pack("<HHHH", 16, 16, 16, 0)
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (head + struct.pack("<H", len(entries)) + table + bytes(4)).ljust(200, b"\0") + data


def gray(values: np.ndarray, form: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(values[..., 0].astype(np.uint16)).save(buffer, form)
    return buffer.getvalue()


def gray_with_alpha(values: np.ndarray) -> bytes:
    return png(np.stack([values[..., 0], np.full_like(values[..., 0], 65535)], axis=-1))


FILES = {
    "gray.png": lambda values: gray(values[..., :1], "PNG"),
    "gray.tif": lambda values: gray(values[..., :1], "TIFF"),
    "color.png": png,
    "color.tif": tiff,
    "color and alpha.png": lambda values: png(
        np.concatenate([values, np.full_like(values[..., :1], 65535)], axis=-1)
    ),
}


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", FILES)
def test_the_bits_of_a_sensor_become_eight(tmp_path: Path, name: str, bits: int):
    """The image looks the same, however many bits it was taken with."""
    path = tmp_path / name
    path.write_bytes(FILES[name]((COLORS * (2**bits - 1)).round().astype(np.uint16)))
    expected = COLORS if "color" in name else np.repeat(COLORS[..., :1], 3, axis=-1)
    for pixels in (read_image(path), from_pillow(Image.open(path))):
        assert np.abs(pixels.permute(1, 2, 0).numpy() - expected * 255).max() <= 1.5


def test_a_photograph_of_twelve_bits_that_does_not_reach_white(tmp_path: Path):
    """It was read with a brightest value of 9 of 255."""
    (tmp_path / "a.png").write_bytes(gray(COLORS * 2400, "PNG"))
    assert int(read_image(tmp_path / "a.png").max()) == 2400 * 255 // 4095 == 149


@given(arrays.arrays(np.uint16, (2, 3), elements=st.integers(0, 65535)))
def test_stretching_keeps_order_and_full_range(values: np.ndarray):
    narrow = to_8_bits(values)
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(narrow.ravel()[order].astype(int)) >= 0).all()
    if values.max() >= 2**14:
        assert np.array_equal(narrow, values // 257)
    elif values.max() >= 2**8:
        assert narrow.max() >= 63, "a depth has at most two bits more than needed"


@pytest.mark.parametrize(
    ("brightest", "bits"),
    [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16)],
)
def test_the_depth_is_the_smallest_that_holds_the_brightest_value(brightest: int, bits: int):
    assert used_bits(brightest) == bits


def test_values_beyond_16_bits_and_below_zero_are_clipped():
    assert to_8_bits(np.array([-7, 0, 65535, 2**31 - 1], np.int32)).tolist() == [0, 0, 255, 255]
    assert to_8_bits(np.zeros((0, 3), np.uint16)).shape == (0, 3)


@pytest.mark.parametrize(
    ("name", "make", "bits", "action"),
    [
        ("a.png", FILES["gray.png"], 12, "its 12 bits are read as 8"),
        ("a.tif", FILES["gray.tif"], 10, "its 10 bits are read as 8"),
        ("a.png", png, 14, "its 14 bits are read as 8"),
        ("a.png", FILES["gray.png"], 16, "read with 8 bits"),
        ("a.png", png, 16, "read with 8 bits"),
        ("a.tif", tiff, 12, "its 12 bits are read as 8"),
        ("a.tif", tiff, 16, "read with 8 bits"),
        ("a.png", gray_with_alpha, 12, "read as nearly black; multiply its values"),
    ],
)
def test_the_audit_says_what_becomes_of_the_bits(
    tmp_path: Path, name: str, make, bits: int, action: str
):
    size = {"height": 24, "width": 32}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12}
    tree = {"images": [{"id": 1, "file_name": name, **size}], "annotations": [box]}
    data = tmp_path / "annotations.json"
    data.write_text(json.dumps({**tree, "categories": [{"id": 1, "name": "a"}]}))
    (tmp_path / name).write_bytes(make((COLORS * (2**bits - 1)).round().astype(np.uint16)))
    (found,) = {(each.action, each.value) for each in audit(data).findings if "bits" in each.kind}
    assert found[0].startswith(action)
    assert found[1].startswith("brightest value ")
