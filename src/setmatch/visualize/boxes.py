"""Draw the boxes of detections on an image."""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from setmatch.ops.colors import Color, color_of
from setmatch.ops.label_placement import Rectangle, place_labels
from setmatch.structures.detection_arrays import DetectedBoxes
from setmatch.visualize.labels import (
    ColorBy,
    Label,
    draw_label,
    font_for,
    label_size,
    line_px,
    shortened,
    texts_of,
)

_SHADE = (0, 0, 0, 90)  # the last number is opacity


def draw(
    image: Image.Image,
    detections: DetectedBoxes,
    labels: bool | Sequence[str] = True,
    width: int | None = None,
    color_by: ColorBy | Sequence[int] = "class",
) -> Image.Image:
    """Return an RGB copy of `image` with the box, class name and score of every detection.

    Boxes are in pixels of `image`. Line width and font size follow the image's size, unless `width`
    gives that of the lines in pixels. `labels` replaces the texts, one for each detection, or
    leaves them out (False). `color_by` gives each class, or each detection, a color of its own, or
    is a number for each detection, whose color it has.
    Labels stay inside the image and do not cover each other: detections with a higher score are
    labeled first, and a label without a free place at its box is left out. Raises ConfigError if
    `labels` are not as many as the detections, or `width` or `color_by` is none of the above.
    """
    pad = max(2, round(min(image.size) / 220))
    line = line_px(width, color_by, pad)
    names = [detections.categories.name(class_index) for class_index in detections.classes.tolist()]
    scored = [f"{name} {p:.0%}" for name, p in zip(names, detections.scores.tolist(), strict=True)]
    texts = texts_of(labels, scored)
    drawn = image.convert("RGB")
    if drawn is image:
        drawn = image.copy()
    canvas = ImageDraw.Draw(drawn, "RGBA")  # mode RGBA blends transparent colors
    font = font_for("".join(texts), max(10, round(min(drawn.size) / 36)))
    boxes = _clipped(detections, drawn.size)
    if isinstance(color_by, str):
        kinds = detections.classes.tolist() if color_by == "class" else list(range(len(texts)))
    else:
        kinds = list(color_by)
    colors = [color_of(kind) for kind in kinds]
    texts = [shortened(text, font, drawn.width - 4 * pad) for text in texts]
    places = place_labels(boxes, [label_size(text, font, pad) for text in texts], drawn.size)
    for box, color in reversed(list(zip(boxes, colors, strict=True))):
        _draw_box(canvas, box, color, line)
    for place, text, color in reversed(list(zip(places, texts, colors, strict=True))):
        if place is not None:
            draw_label(drawn, Label(place, text), color, font, pad)
    return drawn


def _clipped(detections: DetectedBoxes, size: tuple[int, int]) -> list[Rectangle]:
    """Return the boxes clipped to the image, so that all of their lines are visible."""
    clipped = []
    for box in detections.xyxy_px.tolist():
        x0, y0, x1, y1 = (
            min(max(place, 0), side - 1) for place, side in zip(box, (*size, *size), strict=True)
        )
        clipped.append((x0, y0, max(x0, x1), max(y0, y1)))
    return clipped


def _draw_box(canvas: ImageDraw.ImageDraw, box: Rectangle, color: Color, line: int) -> None:
    # A thin shadow on both sides keeps the line visible on a background of its color.
    x0, y0, x1, y1 = box
    canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_SHADE)
    if min(x1 - x0, y1 - y0) > 2 * line:
        canvas.rectangle((x0 + line, y0 + line, x1 - line, y1 - line), outline=_SHADE)
    canvas.rectangle(box, outline=color, width=line)
