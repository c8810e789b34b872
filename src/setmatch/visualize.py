"""Drawing of detections and segments on images of any size and content."""

import colorsys
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float64, Int32, Int64
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from setmatch.errors import ConfigError
from setmatch.ops.colors import Color, color_of
from setmatch.ops.label_placement import Rectangle, covered_px, moved_inside, place_labels
from setmatch.structures.detections import Detections
from setmatch.structures.segments import Segments

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
ColorBy = Literal["class", "detection"]

_DARK: Color = (20, 20, 24)
_LIGHT: Color = (255, 255, 255)
_SHADE = (0, 0, 0, 90)  # the last number is opacity
# Fonts with many characters, by their file names on Linux, macOS and Windows.
_SYSTEM_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc"),
)
_THING_OPACITY, _STUFF_OPACITY = 0.55, 0.4


class _Label(NamedTuple):
    place: Rectangle
    text: str


def draw(
    image: Image.Image,
    detections: Detections,
    labels: bool | Sequence[str] = True,
    width: int | None = None,
    color_by: ColorBy = "class",
) -> Image.Image:
    """Return an RGB copy of `image` with the box, class name and score of every detection.

    Boxes are in pixels of `image`. Line width and font size follow the image's size, unless `width`
    gives that of the lines in pixels. `labels` replaces the texts, one for each detection, or
    leaves them out (False). `color_by` gives each class, or each detection, a color of its own.
    Labels stay inside the image and do not cover each other: detections with a higher score are
    labeled first, and a label without a free place at its box is left out. Raises ConfigError if
    `labels` are not as many as the detections, or `width` or `color_by` is none of the above.
    """
    pad = max(2, round(min(image.size) / 220))
    line = _line_px(width, color_by, pad)
    names = [detections.categories.name(class_index) for class_index in detections.classes.tolist()]
    scored = [f"{name} {p:.0%}" for name, p in zip(names, detections.scores.tolist(), strict=True)]
    texts = _texts(labels, scored)
    drawn = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    canvas = ImageDraw.Draw(drawn, "RGBA")  # mode RGBA blends transparent colors
    font = _font("".join(texts), max(10, round(min(drawn.size) / 36)))
    boxes = _clipped(detections, drawn.size)
    by_class = color_by == "class"
    kinds = detections.classes.tolist() if by_class else list(range(len(detections)))
    colors = [color_of(kind) for kind in kinds]
    texts = [_shortened(text, font, drawn.width - 4 * pad) for text in texts]
    places = place_labels(boxes, [_label_size(text, font, pad) for text in texts], drawn.size)
    for box, color in reversed(list(zip(boxes, colors, strict=True))):
        _draw_box(canvas, box, color, line)
    for place, text, color in reversed(list(zip(places, texts, colors, strict=True))):
        if place is not None:
            _draw_label(canvas, _Label(place, text), color, font, pad)
    return drawn


def _line_px(width: int | None, color_by: str, default: int) -> int:
    """Return the width of lines, after checking what the caller chose."""
    if color_by not in get_args(ColorBy):
        raise ConfigError(f"color_by = {color_by!r}: choose {' or '.join(get_args(ColorBy))}")
    if width is not None and width < 1:
        raise ConfigError(f"width = {width}: lines are at least a pixel wide")
    return default if width is None else width


def _texts(labels: bool | Sequence[str], default: list[str]) -> list[str]:
    """Return a text for each detection or segment; empty texts are not drawn."""
    if isinstance(labels, bool):
        return default if labels else [""] * len(default)
    if isinstance(labels, str) or len(labels) != len(default):
        given = repr(labels) if isinstance(labels, str) else f"{len(labels)} texts"
        raise ConfigError(f"labels = {given}: give one text for each of the {len(default)} results")
    return list(labels)


def draw_segments(
    image: Image.Image,
    segments: Segments,
    labels: bool | Sequence[str] = True,
    width: int | None = None,
    color_by: ColorBy = "class",
) -> Image.Image:
    """Return an RGB copy of `image` with every segment tinted, outlined and named.

    `segments` have the size of `image`. Things of one class differ in shade; stuff is paler. Names
    that would cover more than their segment are left out. `labels`, `width` (of the outlines) and
    `color_by` are those of `draw`, and raise its errors.
    """
    line = _line_px(width, color_by, max(2, round(min(image.size) / 300)))
    names = [segments.categories.name(class_index) for class_index in segments.classes.tolist()]
    texts = _texts(labels, names)
    ids = segments.ids.cpu().numpy()
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    by_class = color_by == "class"
    colors = _shades(segments) if by_class else [color_of(n) for n in range(len(segments))]
    shades = np.array([(0, 0, 0), *colors], dtype=np.float32)
    strength = np.array(
        [0, *np.where(segments.things.cpu(), _THING_OPACITY, _STUFF_OPACITY)], dtype=np.float32
    )
    drawn = pixels + (shades[ids] - pixels) * strength[ids][..., None]
    inner = _distance_to_border_px(ids)
    edge = (inner <= line) & (ids > 0)
    drawn[edge] = shades[ids[edge]]
    between = (inner <= 1) & (ids > 0)
    drawn[between] = (drawn[between] + _LIGHT) / 2
    tinted = Image.fromarray(drawn.round().clip(0, 255).astype(np.uint8))
    _name_segments(tinted, segments, texts, inner, colors)
    return tinted


def _shades(segments: Segments) -> list[Color]:
    """Return a color for each segment: that of its class, varied for further things of it."""
    counts: dict[int, int] = {}
    shades = []
    for class_index, thing in zip(segments.classes.tolist(), segments.things.tolist(), strict=True):
        number = counts[class_index] = counts.get(class_index, -1) + 1
        shades.append(_varied(color_of(class_index), number if thing else 0))
    return shades


def _varied(color: Color, number: int) -> Color:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    step = (number + 1) // 2 * (1 if number % 2 else -1)
    value = min(max(value * (1, 0.78, 1.2)[number % 3], 0.35), 1)
    red, green, blue = colorsys.hsv_to_rgb((hue + 0.035 * (step % 5)) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _distance_to_border_px(ids: Int32[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """Return the distance of every pixel to the nearest other segment; 1 at a border."""
    height, width = ids.shape
    padded = np.pad(ids, 1, mode="edge")
    same = np.ones(ids.shape, dtype=bool)
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        same &= padded[y : y + height, x : x + width] == ids
    if same.all():
        return np.full(ids.shape, float(height + width))
    return np.asarray(ndimage.distance_transform_edt(same) + 1)


def _distance_to_edge_px(size_px: tuple[int, int]) -> Int64[np.ndarray, "H W"]:
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 1 for n in size_px)
    return np.asarray(np.minimum(rows[:, None], columns))


def _name_segments(
    drawn: Image.Image,
    segments: Segments,
    names: list[str],
    inner: Float64[np.ndarray, "H W"],
    shades: list[Color],
) -> None:
    canvas = ImageDraw.Draw(drawn, "RGBA")
    font = _font("".join(names), max(10, round(min(drawn.size) / 36)))
    line = max(2, round(min(drawn.size) / 220))
    numbers = list(range(1, len(segments) + 1))
    clearance = np.minimum(inner, _distance_to_edge_px(segments.size_px))
    positions = _roomiest_places(segments.ids.cpu().numpy(), clearance, len(segments))
    areas = segments.area_px.tolist()
    labels: list[_Label] = []
    # The largest segments are placed first.
    for number in sorted(numbers, key=lambda number: -areas[number - 1]):
        if not areas[number - 1] or not names[number - 1]:
            continue
        y, x = positions[number - 1]
        width = font.getlength(names[number - 1]) + 4 * line
        _, top, _, bottom = font.getbbox("Ag|")
        height = bottom - top + 2 * line
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        place = moved_inside(box, drawn.size)
        if width * height > areas[number - 1] or covered_px(place, [each.place for each in labels]):
            continue
        labels.append(_Label(place, names[number - 1]))
        _draw_label(canvas, labels[-1], shades[number - 1], font, line)


def _roomiest_places(
    ids: Int32[np.ndarray, "H W"], clearance: Float64[np.ndarray, "H W"], count: int
) -> list[tuple[int, int]]:
    """Return the row and column of the largest clearance in each segment; 0, 0 in an empty one.

    Each segment is searched in its own box: ndimage.maximum_position sorts the whole image.
    """
    places = []
    for number, box in enumerate(ndimage.find_objects(ids, count), start=1):
        place = (0, 0)
        if box is not None:
            inside = np.where(ids[box] == number, clearance[box], -1.0)
            row, column = divmod(int(inside.argmax()), inside.shape[1])
            place = (box[0].start + row, box[1].start + column)
        places.append(place)
    return places


def _font(text: str, size: int) -> Font:
    """Return Pillow's default font for ASCII, else the font that lacks the fewest characters."""
    default = ImageFont.load_default(size=size)
    if text.isascii():
        return default
    fonts: list[Font] = [default]
    for name in _SYSTEM_FONTS:
        with suppress(OSError):  # not installed
            fonts.append(ImageFont.truetype(name, size))
    return min(fonts, key=lambda font: _count_missing(font, text))


def _count_missing(font: Font, text: str) -> int:
    placeholder = bytes(font.getmask("\uffff"))  # no font has this character
    return sum(bytes(font.getmask(letter)) == placeholder for letter in set(text))


def _clipped(detections: Detections, size: tuple[int, int]) -> list[Rectangle]:
    """Return the boxes clipped to the image, so that all of their lines are visible."""
    xyxy = detections.xyxy_px.double().cpu().clone()
    xyxy[:, 0::2] = xyxy[:, 0::2].clamp(0, size[0] - 1)
    xyxy[:, 1::2] = xyxy[:, 1::2].clamp(0, size[1] - 1)
    return [(x0, y0, max(x0, x1), max(y0, y1)) for x0, y0, x1, y1 in xyxy.tolist()]


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, color: Color, line: int) -> None:
    # A thin shadow on both sides keeps the line visible on a background of its color.
    x0, y0, x1, y1 = box
    canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_SHADE)
    if min(x1 - x0, y1 - y0) > 2 * line:
        canvas.rectangle((x0 + line, y0 + line, x1 - line, y1 - line), outline=_SHADE)
    canvas.rectangle(box, outline=color, width=line)


def _label_size(text: str, font: Font, line: int) -> tuple[int, int]:
    """Return the width and height of a label, with its margins; nothing for an empty text."""
    if not text:
        return 0, 0
    _, top, _, bottom = font.getbbox("Ag|")  # the same height for every text
    return math.ceil(font.getlength(text)) + 4 * line, math.ceil(bottom - top) + 2 * line


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""


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
    """Return the relative luminance, 0..1, as WCAG 2 defines it."""
    red, green, blue = ((channel / 255) ** 2.2 for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
