"""Image files that would take far more memory or time than their size suggests."""

import io
import re
import struct
import zlib

from PIL import Image


def png_of(width: int, height: int) -> bytes:
    """Return a PNG of so many black pixels, in a thousandth of their size."""
    packed = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    return _png(width, height, data)


def _png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*each) for each in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_of_scans(count: int, side: int = 64) -> bytes:
    """Return a progressive JPEG that repeats its last scan."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 30)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = [each.start() for each in re.finditer(b"\xff\xda", content)][-1]
    return content[:-2] + content[last:-2] * count + content[-2:]


def saved(kind: str, width: int, height: int) -> bytes:
    """Return a black image of one bit a pixel, or as few as the format has."""
    file = io.BytesIO()
    mode = "1" if kind in ("TIFF", "GIF", "BMP") else "L"
    options = {"TIFF": {"compression": "group4"}}.get(kind, {})
    Image.new(mode, (width, height)).save(file, kind, **options)
    return file.getvalue()


def header_of(kind: str, width: int, height: int) -> bytes:
    """Return the first bytes of an image of so many pixels, which are not there."""
    if kind == "BMP":
        return b"BM" + struct.pack(
            "<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, width, height, 1, 24, *[0] * 6
        )
    if kind == "GIF":
        frame = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0)
        return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + frame + b"\2\0;"
    return _png(width, height, zlib.compress(b"\0\0"))
