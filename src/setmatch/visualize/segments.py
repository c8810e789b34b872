"""Draw panoptic segments on an image."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32, Int64
from PIL import Image
from scipy import ndimage

from setmatch.ops.colors import Color, color_of
from setmatch.ops.label_placement import covered_px, moved_inside
from setmatch.structures.segments import Segments
from setmatch.visualize.labels import LIGHT, ColorBy, Label, draw_label, font_for, line_px, texts_of

_THING_OPACITY, _STUFF_OPACITY = 0.55, 0.4


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
    line = line_px(width, color_by, max(2, round(min(image.size) / 300)))
    names = [segments.categories.name(class_index) for class_index in segments.classes.tolist()]
    texts = texts_of(labels, names)
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
    drawn[between] = (drawn[between] + LIGHT) / 2
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
    font = font_for("".join(names), max(10, round(min(drawn.size) / 36)))
    line = max(2, round(min(drawn.size) / 220))
    numbers = list(range(1, len(segments) + 1))
    clearance = np.minimum(inner, _distance_to_edge_px(segments.size_px))
    positions = _roomiest_places(segments.ids.cpu().numpy(), clearance, len(segments))
    areas = segments.area_px.tolist()
    labels: list[Label] = []
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
        labels.append(Label(place, names[number - 1]))
        draw_label(drawn, labels[-1], shades[number - 1], font, line)


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
