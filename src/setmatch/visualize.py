"""Boxes or segments, with their names, on a picture; legible whatever its size and contents."""

import colorsys
import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32, Int64
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from setmatch.ops.colors import Color, color_of
from setmatch.structures.detections import Detections
from setmatch.structures.segments import Segments

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Rectangle = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

_DARK: Color = (20, 20, 24)
_LIGHT: Color = (255, 255, 255)
_SHADE = (0, 0, 0, 90)  # the last number is opacity
# By the names under which Linux, macOS and Windows keep fonts with many characters.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc"),
)
_THING, _STUFF = 0.55, 0.4  # how strongly segments are tinted


class _Label(NamedTuple):
    place: Rectangle
    text: str


def draw(image: Image.Image, detections: Detections) -> Image.Image:
    """Return an RGB copy of `image` with every detection on it: box, class name, score.

    Boxes are in pixels of `image`. Line and letters grow with the picture; labels stay inside it
    and make room for each other, the best detection choosing first. The worst are drawn first, so
    that the best lie on top.
    """
    picture = image.convert("RGB")
    if picture is image:
        picture = image.copy()
    canvas = ImageDraw.Draw(picture, "RGBA")  # blends colors that are partly transparent
    line = max(2, round(min(picture.size) / 220))
    names = [detections.categories.name(class_index) for class_index in detections.classes.tolist()]
    font = _font("".join(names), max(10, round(min(picture.size) / 36)))
    boxes = _inside(detections, picture.size)
    colors = [color_of(class_index) for class_index in detections.classes.tolist()]
    labels: list[_Label] = []
    for box, name, score in zip(boxes, names, detections.scores.tolist(), strict=True):
        labels.append(_label(f"{name} {score:.0%}", box, font, line, picture.size, labels))
    for box, color in reversed(list(zip(boxes, colors, strict=True))):
        _draw_box(canvas, box, color, line)
    for label, color in reversed(list(zip(labels, colors, strict=True))):
        _draw_label(canvas, label, color, font, line)
    return picture


def draw_segments(image: Image.Image, segments: Segments) -> Image.Image:
    """Return an RGB copy of `image` with every segment tinted, outlined and named where it is wide.

    `segments` are in the size of `image`. Things of one class differ in shade; stuff is paler. A
    name is left out where it would cover more than its segment.
    """
    ids = segments.ids.cpu().numpy()
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    colors = _shades(segments)
    shades = np.array([(0, 0, 0), *colors], dtype=np.float32)
    strength = np.array([0, *np.where(segments.things.cpu(), _THING, _STUFF)], dtype=np.float32)
    picture = pixels + (shades[ids] - pixels) * strength[ids][..., None]
    inner = _depth_px(ids)
    line = max(2, round(min(image.size) / 300))
    edge = (inner <= line) & (ids > 0)
    picture[edge] = shades[ids[edge]]
    between = (inner <= 1) & (ids > 0)
    picture[between] = (picture[between] + _LIGHT) / 2
    tinted = Image.fromarray(picture.round().clip(0, 255).astype(np.uint8))
    _name_segments(tinted, segments, inner, colors)
    return tinted


def _shades(segments: Segments) -> list[Color]:
    """Return a color for each segment: that of its class, further things of it turned a little."""
    seen: dict[int, int] = {}
    shades = []
    for class_index, thing in zip(segments.classes.tolist(), segments.things.tolist(), strict=True):
        number = seen[class_index] = seen.get(class_index, -1) + 1
        shades.append(_turned(color_of(class_index), number if thing else 0))
    return shades


def _turned(color: Color, number: int) -> Color:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    step = (number + 1) // 2 * (1 if number % 2 else -1)
    value = min(max(value * (1, 0.78, 1.2)[number % 3], 0.35), 1)
    red, green, blue = colorsys.hsv_to_rgb((hue + 0.035 * (step % 5)) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _depth_px(ids: Int32[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Return how far every pixel is from the next segment, 1 at the border between two."""
    height, width = ids.shape
    padded = np.pad(ids, 1, mode="edge")
    same = np.ones(ids.shape, dtype=bool)
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        same &= padded[y : y + height, x : x + width] == ids
    if same.all():
        return np.full(ids.shape, float(height + width))
    return np.asarray(ndimage.distance_transform_edt(same) + 1)


def _from_the_frame_px(size_px: tuple[int, int]) -> Int64[np.ndarray, "H W"]:
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in size_px)
    return np.asarray(np.minimum(rows[:, None], columns))


def _name_segments(
    picture: Image.Image,
    segments: Segments,
    inner: Float64[np.ndarray, "H W"],
    shades: list[Color],
) -> None:
    canvas = ImageDraw.Draw(picture, "RGBA")
    names = [segments.categories.name(class_index) for class_index in segments.classes.tolist()]
    font = _font("".join(names), max(10, round(min(picture.size) / 36)))
    line = max(2, round(min(picture.size) / 220))
    numbers = list(range(1, len(segments) + 1))
    room = np.minimum(inner, _from_the_frame_px(segments.size_px))
    deepest = ndimage.maximum_position(room, segments.ids.cpu().numpy(), numbers)
    middles = np.array(deepest).reshape(-1, 2).tolist()
    areas = segments.area_px.tolist()
    labels: list[_Label] = []
    # The largest choose first; what is smaller than its name stays without.
    for number in sorted(numbers, key=lambda number: -areas[number - 1]):
        if not areas[number - 1]:
            continue
        y, x = middles[number - 1]
        width = font.getlength(names[number - 1]) + 4 * line
        _, top, _, bottom = font.getbbox("Ag|")
        height = bottom - top + 2 * line
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        place = _pushed_inside(box, picture.size)
        if width * height > areas[number - 1] or _covered(place, labels) > 0:
            continue
        labels.append(_Label(place, names[number - 1]))
        _draw_label(canvas, labels[-1], shades[number - 1], font, line)


def _font(text: str, size: int) -> Font:
    """Choose Pillow's own font for ASCII, else the one that lacks fewest of the characters."""
    own = ImageFont.load_default(size=size)
    if text.isascii():
        return own
    fonts: list[Font] = [own]
    for name in _SYSTEM_FONTS:
        with suppress(OSError):  # not on this machine
            fonts.append(ImageFont.truetype(name, size))
    return min(fonts, key=lambda font: _missing(font, text))


def _missing(font: Font, text: str) -> int:
    empty_box = bytes(font.getmask("\uffff"))  # no font has this character
    return sum(bytes(font.getmask(letter)) == empty_box for letter in set(text))


def _inside(detections: Detections, size: tuple[int, int]) -> list[Rectangle]:
    """Return the boxes cut to the picture, so that every line of them is seen."""
    xyxy = detections.xyxy_px.double().cpu().clone()
    xyxy[:, 0::2] = xyxy[:, 0::2].clamp(0, size[0] - 1)
    xyxy[:, 1::2] = xyxy[:, 1::2].clamp(0, size[1] - 1)
    return [(x0, y0, max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in xyxy.tolist()]


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, color: Color, line: int) -> None:
    # A thin shade on both sides keeps the line visible on a ground of its own color.
    x0, y0, x1, y1 = box
    canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_SHADE)
    if min(x1 - x0, y1 - y0) > 2 * line:
        canvas.rectangle((x0 + line, y0 + line, x1 - line, y1 - line), outline=_SHADE)
    canvas.rectangle(box, outline=color, width=line)


def _label(
    text: str,
    box: Rectangle,
    font: Font,
    line: int,
    size: tuple[int, int],
    others: list[_Label],
) -> _Label:
    """Find the place at `box` where the label covers least of the labels that chose before."""
    text = _shortened(text, font, size[0] - 4 * line)
    _, top, _, bottom = font.getbbox("Ag|")  # one height for every text
    width, height = math.ceil(font.getlength(text)) + 4 * line, math.ceil(bottom - top) + 2 * line
    x0, y0, x1, y1 = box
    places = [
        _pushed_inside((x, y, x + width, y + height), size)
        for y in (y0 - height, y0, y1 - height, y1)
        for x in (x0, x1 - width)
    ]
    return _Label(min(places, key=lambda place: _covered(place, others)), text)


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""


def _pushed_inside(place: Rectangle, size: tuple[int, int]) -> Rectangle:
    x0, y0, x1, y1 = place
    left = max(0.0, min(x0, size[0] - (x1 - x0)))
    top = max(0.0, min(y0, size[1] - (y1 - y0)))
    return left, top, left + x1 - x0, top + y1 - y0


def _covered(place: Rectangle, others: list[_Label]) -> float:
    """Return how many pixels of the other labels lie under `place`."""
    x0, y0, x1, y1 = place
    return math.fsum(
        max(0.0, min(x1, u1) - max(x0, u0)) * max(0.0, min(y1, v1) - max(y0, v0))
        for u0, v0, u1, v1 in (other.place for other in others)
    )


def _draw_label(
    canvas: ImageDraw.ImageDraw,
    label: _Label,
    color: Color,
    font: Font,
    line: int,
) -> None:
    if not label.text:
        return
    x0, y0, x1, y1 = label.place
    canvas.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius=line, fill=color)
    ink = _DARK if _luminance(color) > 0.36 else _LIGHT
    canvas.text((x0 + 2 * line, (y0 + y1) / 2), label.text, fill=ink, font=font, anchor="lm")


def _luminance(color: Color) -> float:
    """Return the relative luminance, 0..1, as WCAG 2 weighs the linear channels."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
