"""Labels on images: their texts, fonts and colors."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from numbers import Integral
from typing import Literal, NamedTuple, get_args

from PIL import Image, ImageDraw, ImageFont

from setmatch.errors import ConfigError, short
from setmatch.ops.colors import Color
from setmatch.ops.label_placement import Rectangle

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
ColorBy = Literal["class", "detection"]

_DARK: Color = (20, 20, 24)
LIGHT: Color = (255, 255, 255)
# Fonts with many characters, by their file names on Linux, macOS and Windows.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc"),
)


class Label(NamedTuple):
    """A text and where it is drawn."""

    place: Rectangle
    text: str


def line_px(width: int | None, color_by: str | Sequence[int], default: int) -> int:
    """Return the width of lines, after checking what the caller chose."""
    is_known = not isinstance(color_by, str) or color_by in get_args(ColorBy)
    if not (is_known and isinstance(color_by, Iterable)):
        raise ConfigError(f"color_by = {short(color_by)}: choose {' or '.join(get_args(ColorBy))}")
    if width is None:
        return default
    if not isinstance(width, Integral) or isinstance(width, bool) or width < 1:
        raise ConfigError(f"width = {short(width)}: lines are whole pixels wide, at least one")
    return width


def texts_of(labels: bool | Sequence[str], default: list[str]) -> list[str]:
    """Return a text for each detection or segment; empty texts are not drawn."""
    if isinstance(labels, bool):
        return default if labels else [""] * len(default)
    texts = list(labels) if isinstance(labels, Iterable) else []
    are_texts = not isinstance(labels, str) and all(isinstance(each, str) for each in texts)
    if not (isinstance(labels, Iterable) and are_texts) or len(texts) != len(default):
        given = f"{len(texts)} texts" if are_texts and texts else short(labels)
        raise ConfigError(f"labels = {given}: give one text for each of the {len(default)} results")
    return texts


def font_for(text: str, size: int) -> Font:
    """Return Pillow's default font for ASCII, else the font that lacks the fewest characters."""
    default = _default_font(size)
    if text.isascii():
        return default
    return min((default, *_system_fonts(size)), key=lambda font: _count_missing(font, text))


# Fonts are kept, since widths and letters are kept by font.
@lru_cache(maxsize=64)
def _default_font(size: int) -> Font:
    return ImageFont.load_default(size=size)


@lru_cache(maxsize=64)
def _system_fonts(size: int) -> tuple[Font, ...]:
    fonts: list[Font] = []
    for name in _SYSTEM_FONTS:
        with suppress(OSError):  # not installed
            fonts.append(ImageFont.truetype(name, size))
    return tuple(fonts)


def _count_missing(font: Font, text: str) -> int:
    placeholder = bytes(font.getmask("\uffff"))  # no font has this character
    return sum(bytes(font.getmask(letter)) == placeholder for letter in set(text))


def label_size(text: str, font: Font, line: int) -> tuple[int, int]:
    """Return the width and height of a label, with its margins; nothing for an empty text."""
    if not text:
        return 0, 0
    return math.ceil(_width(text, font)) + 4 * line, _height(font) + 2 * line


@lru_cache(maxsize=4096)  # the images of a folder have the same classes, and a hundred scores
def _width(text: str, font: Font) -> float:
    return font.getlength(text)


@lru_cache(maxsize=64)
def _height(font: Font) -> int:
    _, top, _, bottom = font.getbbox("Ag|")  # the same height for every text
    return math.ceil(bottom - top)


def shortened(text: str, font: Font, width: int) -> str:
    """Return a text that is at most `width` pixels wide, cut if need be."""
    if _width(text, font) <= width:
        return text
    # Names may be thousands of characters long, and each width takes time with the length.
    kept = bisect_right(
        range(1, len(text) + 1), float(width), key=lambda count: font.getlength(f"{text[:count]}…")
    )
    return f"{text[:kept]}…" if kept else ""


def draw_label(image: Image.Image, label: Label, color: Color, font: Font, line: int) -> None:
    """Draw a label on a background of its color, in dark or light letters; no empty text."""
    if not label.text:
        return
    x0, y0, x1, y1 = label.place
    corner, size = (round(x0), round(y0)), (round(x1 - x0), round(y1 - y0))
    image.paste(color, corner, _background(size, line))
    ink = _DARK if _luminance(color) > 0.36 else LIGHT
    image.paste(ink, corner, _letters(label.text, font, size, 2 * line))


@lru_cache(maxsize=256)
def _background(size: tuple[int, int], radius: int) -> Image.Image:
    """Return the mask of a label's background."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius, fill=255)
    return mask


@lru_cache(maxsize=256)  # to render letters takes longer than all else that is drawn
def _letters(text: str, font: Font, size: tuple[int, int], margin: int) -> Image.Image:
    """Return the mask of a label's letters."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((margin, size[1] / 2), text, fill=255, font=font, anchor="lm")
    return mask


def _luminance(color: Color) -> float:
    """Return the relative luminance, 0..1, as WCAG 2 defines it."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
