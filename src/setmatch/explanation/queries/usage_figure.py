"""Draw what each query predicts and how often, as in the paper's figure 7."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from setmatch.explanation.queries.statistics import QueryStatistics, QueryUsage
from setmatch.explanation.shown_scores import in_words

Pixels = int | float

_MAX_PANELS = 20
_COLUMNS = 5
_SUPERSAMPLING = 3  # for smooth dots
_PANEL_PX, _GAP_PX, _MARGIN_PX, _CAPTION_PX, _BARS_PX = 200, 18, 28, 26, 150
_BACKGROUND, _PANEL, _TEXT = (255, 255, 255), (246, 247, 249), (29, 31, 36)
_GRAY, _USED, _UNUSED = (110, 116, 125), (43, 108, 176), (168, 100, 0)
# Dots of boxes with a side (√(w·h), a fraction of the image) up to the first value are round and
# have the color of small boxes; from the second value on, they have nothing of it.
_SMALL_SIDE, _LARGE_SIDE = 0.08, 0.45
_STRETCH = 0.6  # of the dot of a large box of twice the width, or twice the height


def query_figure(statistics: QueryStatistics, queries: Sequence[int] = ()) -> Image.Image:
    """Draw every box of each query as a dot at its center, and how often each query detects.

    Dots have the color and shape of small, large wide, or large tall boxes. Without `queries`, the
    twenty with the most detections are shown.
    """
    uses = statistics.uses
    shown = list(queries) or most_used(uses)
    rows = math.ceil(len(shown) / _COLUMNS)
    step = _PANEL_PX + _CAPTION_PX + _GAP_PX
    width = 2 * _MARGIN_PX + _COLUMNS * (_PANEL_PX + _GAP_PX) - _GAP_PX
    top = _MARGIN_PX + 84
    bottom = top + rows * step
    canvas = _Canvas(width, bottom + 70 + _BARS_PX + 30)
    _draw_title(canvas, statistics)
    for number, query in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        left = _MARGIN_PX + column * (_PANEL_PX + _GAP_PX)
        _draw_panel(canvas, statistics, uses[query], left, top + row * step)
    _draw_bars(canvas, statistics, uses, bottom + 12)
    return canvas.image()


class _Canvas:
    """An image that is drawn at a multiple of its size; coordinates are in its final pixels."""

    def __init__(self, width: int, height: int) -> None:
        size = (width * _SUPERSAMPLING, height * _SUPERSAMPLING)
        self._image = Image.new("RGB", size, _BACKGROUND)
        self._pen = ImageDraw.Draw(self._image)

    def rectangle(self, box: Sequence[Pixels], fill: tuple[int, ...]) -> None:
        self._pen.rectangle([_SUPERSAMPLING * side for side in box], fill=fill)

    def text(
        self, x: Pixels, y: Pixels, text: str, size: int, fill: tuple[int, ...] = _TEXT
    ) -> Pixels:
        """Write text that is vertically centered at `y`, and return the x where it ends."""
        font = ImageFont.load_default(size=size * _SUPERSAMPLING)
        corner = (x * _SUPERSAMPLING, y * _SUPERSAMPLING)
        self._pen.text(corner, text, fill=fill, font=font, anchor="lm")
        return x + font.getlength(text) / _SUPERSAMPLING

    def dots(
        self,
        centers: Float32[np.ndarray, "M 2"],
        radii: Float64[np.ndarray, "M 2"],
        colors: list[list[int]],
    ) -> None:
        places = np.concatenate([centers - radii, centers + radii], axis=1) * _SUPERSAMPLING
        for place, color in zip(places.tolist(), colors, strict=True):
            self._pen.ellipse(place, tuple(color))

    def image(self) -> Image.Image:
        return self._image.reduce(_SUPERSAMPLING)


@dataclass(frozen=True)
class KindOfBox:
    """How the dots of a kind of box look: color, and radii for the legend in pixels."""

    name: str
    color: tuple[int, int, int]
    radius_x: int
    radius_y: int

    @property
    def css_color(self) -> str:
        """Return the color as CSS writes it."""
        return f"#{bytes(self.color).hex()}"


# Distinct for people who do not tell red from green, and by shape.
KINDS_OF_BOX = (
    KindOfBox("small", (232, 150, 10), 5, 5),
    KindOfBox("large, wide", (150, 40, 140), 8, 3),
    KindOfBox("large, tall", (40, 90, 220), 3, 8),
)
_SMALL, _WIDE, _TALL = (kind.color for kind in KINDS_OF_BOX)


def dot_colors(
    cxcywh: Float32[np.ndarray, "M 4"],
) -> UInt8[np.ndarray, "M 3"]:
    """Return the color of each box: that of small ones; if large, from that of wide to tall."""
    large, wide = _largeness(cxcywh)[:, None], _wideness(cxcywh)[:, None]
    shape = wide * np.array(_WIDE) + (1 - wide) * np.array(_TALL)
    return (large * shape + (1 - large) * np.array(_SMALL)).round().astype(np.uint8)


def dot_shapes(cxcywh: Float32[np.ndarray, "M 4"]) -> Float64[np.ndarray, "M 2"]:
    """Return the radii (x, y) of each box's dot: 1 if small; if large, wide or tall as the box."""
    stretch = 1 + _STRETCH * _largeness(cxcywh) * np.abs(2 * _wideness(cxcywh) - 1)
    is_wide = _wideness(cxcywh) >= 0.5
    radii = np.stack([np.where(is_wide, stretch, 1 / stretch)] * 2, axis=1).astype(np.float64)
    radii[:, 1] = 1 / radii[:, 0]
    return radii


def _largeness(cxcywh: Float32[np.ndarray, "M 4"]) -> Float32[np.ndarray, " M"]:
    """Return 0 for small boxes, 1 for large ones."""
    side = np.sqrt(np.maximum(cxcywh[:, 2], 1e-6) * np.maximum(cxcywh[:, 3], 1e-6))
    return np.clip((side - _SMALL_SIDE) / (_LARGE_SIDE - _SMALL_SIDE), 0, 1)


def _wideness(cxcywh: Float32[np.ndarray, "M 4"]) -> Float32[np.ndarray, " M"]:
    """Return 1 for boxes of twice the width of their height, 0 for the reverse."""
    ratio = np.maximum(cxcywh[:, 2], 1e-6) / np.maximum(cxcywh[:, 3], 1e-6)
    return np.clip(0.5 + np.log2(ratio) / 2, 0, 1)


def most_used(uses: list[QueryUsage]) -> list[int]:
    """Return the twenty queries with the most detections, by their number."""
    most = sorted(uses, key=lambda use: (-use.detections, use.query))[:_MAX_PANELS]
    return sorted(use.query for use in most)


def _draw_title(canvas: _Canvas, statistics: QueryStatistics) -> None:
    y = _MARGIN_PX + 10
    images = len(statistics.score)
    title = f"What the queries of {statistics.card.preset} predict for {images:,} images"
    canvas.text(_MARGIN_PX, y, title, 22)
    legend = "Each box is a dot at its center, whatever its score:"
    x = canvas.text(_MARGIN_PX, y + 34, legend, 15, _GRAY) + 14
    for kind in KINDS_OF_BOX:
        radii = np.array([[kind.radius_x, kind.radius_y]], dtype=np.float64)
        canvas.dots(np.array([[x, y + 34]], dtype=np.float32), radii, [list(kind.color)])
        x = canvas.text(x + 13, y + 34, kind.name, 15, _GRAY) + 22
    caption = (
        f"Below: how often the query scores above {in_words(statistics.threshold, '.0%')}, "
        "and its most frequent class."
    )
    if statistics.ranked:
        caption += " Each image chooses its queries, best first: numbers are ranks."
    canvas.text(_MARGIN_PX, y + 56, caption, 15, _GRAY)


def _draw_panel(
    canvas: _Canvas, statistics: QueryStatistics, use: QueryUsage, left: Pixels, top: Pixels
) -> None:
    canvas.rectangle((left, top, left + _PANEL_PX, top + _PANEL_PX), _PANEL)
    boxes = statistics.cxcywh[:, use.query]
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    # Small boxes are drawn last, over large ones.
    boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")]
    corner = np.array([left, top], dtype=np.float32)
    centers = corner + _PANEL_PX * np.clip(boxes[:, :2], 0, 1)
    radius = float(np.clip(30 / math.sqrt(max(len(boxes), 1)), 1.1, 3.5))
    canvas.dots(centers.astype(np.float32), radius * dot_shapes(boxes), dot_colors(boxes).tolist())
    fraction = use.detections / max(len(statistics.score), 1)
    top_class = next(iter(use.classes), "")
    caption = f"query {use.query}: {percent(fraction)}" + (f", {top_class}" if top_class else "")
    color = _TEXT if use.detections else _UNUSED
    canvas.text(left, top + _PANEL_PX + 13, _shorten(caption), 14, color)


def _draw_bars(
    canvas: _Canvas, statistics: QueryStatistics, uses: list[QueryUsage], top: Pixels
) -> None:
    unused = sum(not use.detections for use in uses)
    least = in_words(statistics.threshold, ".0%")
    title = f"Fraction of images in which a query scores above {least}: "
    x = canvas.text(_MARGIN_PX, top + 10, title, 16)
    summary = f"{unused} of {len(uses)} never do" if unused else f"all {len(uses)} do in some image"
    canvas.text(x, top + 10, summary, 16, _UNUSED if unused else _TEXT)
    base = top + 44 + _BARS_PX
    most = max(max(use.detections for use in uses), 1)
    width = _COLUMNS * (_PANEL_PX + _GAP_PX) - _GAP_PX
    step = width / len(uses)
    canvas.rectangle((_MARGIN_PX, base, _MARGIN_PX + width, base + 0.5), _GRAY)
    for use in uses:
        left = _MARGIN_PX + use.query * step
        height = _BARS_PX * use.detections / most
        right = left + max(0.8 * step, 1)
        if use.detections:
            canvas.rectangle((left, base - height, right, base), _USED)
        else:
            canvas.rectangle((left, base - 4, right, base), _UNUSED)
    highest = percent(most / max(len(statistics.score), 1))
    canvas.text(_MARGIN_PX + 4, base - _BARS_PX - 9, highest, 13, _GRAY)
    canvas.text(_MARGIN_PX, base + 14, "query 0", 13, _GRAY)
    canvas.text(_MARGIN_PX + width - 62, base + 14, f"query {len(uses) - 1}", 13, _GRAY)


def percent(fraction: float) -> str:
    """Return a fraction in percent, with a decimal below ten."""
    return f"{fraction:.0%}" if fraction == 0 or fraction >= 0.1 else f"{fraction:.1%}"


def _shorten(caption: str) -> str:
    most = 26  # characters, as wide as a panel
    return caption if len(caption) <= most else f"{caption[: most - 1]}…"
