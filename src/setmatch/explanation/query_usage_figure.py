"""The paper's figure 7 for any model and data: what each query predicts, and how often."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from setmatch.explanation.query_usage import QueryStatistics, QueryUsage

Pixels = int | float

_CHOSEN = 20
_COLUMNS = 5
_FINER = 3  # everything is drawn this much larger and averaged, for smooth dots
_PANEL_PX, _GAP_PX, _MARGIN_PX, _CAPTION_PX, _BARS_PX = 200, 18, 28, 26, 150
_PAPER, _FRAME, _INK = (255, 255, 255), (246, 247, 249), (29, 31, 36)
_SOFT, _USED, _DEAD = (110, 116, 125), (43, 108, 176), (220, 50, 60)
_SMALL, _WIDE, _TALL = (38, 166, 91), (220, 50, 60), (48, 92, 230)
# Sides (√(w·h), fractions of the image) up to which a box is all green, and from which not at all.
_TINY, _LARGE = 0.08, 0.45


def slot_figure(study: QueryStatistics, queries: Sequence[int] = ()) -> Image.Image:
    """Draw every box of each query as a dot at its middle, and below how often queries answer.

    Dots are green for small boxes, red for large wide ones, blue for large tall ones.
    """
    uses = study.uses
    chosen = list(queries) or _busiest(uses)
    rows = math.ceil(len(chosen) / _COLUMNS)
    step = _PANEL_PX + _CAPTION_PX + _GAP_PX
    width = 2 * _MARGIN_PX + _COLUMNS * (_PANEL_PX + _GAP_PX) - _GAP_PX
    top = _MARGIN_PX + 84
    bottom = top + rows * step
    canvas = _Canvas(width, bottom + 70 + _BARS_PX + 30)
    _title(canvas, study)
    for number, query in enumerate(chosen):
        row, column = divmod(number, _COLUMNS)
        left = _MARGIN_PX + column * (_PANEL_PX + _GAP_PX)
        _panel(canvas, study, uses[query], left, top + row * step)
    _bars(canvas, study, uses, bottom + 12)
    return canvas.picture()


class _Canvas:
    """A picture drawn larger than it is, in the pixels it will have."""

    def __init__(self, width: int, height: int) -> None:
        self._image = Image.new("RGB", (width * _FINER, height * _FINER), _PAPER)
        self._pen = ImageDraw.Draw(self._image)

    def rectangle(self, box: Sequence[Pixels], fill: tuple[int, ...]) -> None:
        self._pen.rectangle([_FINER * side for side in box], fill=fill)

    def text(
        self, x: Pixels, y: Pixels, text: str, size: int, fill: tuple[int, ...] = _INK
    ) -> Pixels:
        """Write on a line whose middle is `y`, and return where the text ends."""
        font = ImageFont.load_default(size=size * _FINER)
        self._pen.text((x * _FINER, y * _FINER), text, fill=fill, font=font, anchor="lm")
        return x + font.getlength(text) / _FINER

    def dots(
        self, centers: Float32[np.ndarray, "M 2"], radius: Pixels, colors: list[list[int]]
    ) -> None:
        for (x, y), color in zip((centers * _FINER).tolist(), colors, strict=True):
            around = radius * _FINER
            self._pen.ellipse((x - around, y - around, x + around, y + around), tuple(color))

    def picture(self) -> Image.Image:
        return self._image.reduce(_FINER)


def dot_colors(
    cxcywh: Float32[np.ndarray, "M 4"],
) -> UInt8[np.ndarray, "M 3"]:
    """Return the color of each box: green if small; if large, from red (wide) to blue (tall)."""
    width, height = np.maximum(cxcywh[:, 2], 1e-6), np.maximum(cxcywh[:, 3], 1e-6)
    side = np.sqrt(width * height)
    large = np.clip((side - _TINY) / (_LARGE - _TINY), 0, 1)[:, None]
    wide = np.clip(0.5 + np.log2(width / height) / 2, 0, 1)[:, None]
    shape = wide * np.array(_WIDE) + (1 - wide) * np.array(_TALL)
    return (large * shape + (1 - large) * np.array(_SMALL)).round().astype(np.uint8)


def _busiest(uses: list[QueryUsage]) -> list[int]:
    most = sorted(uses, key=lambda use: (-use.answers, use.query))[:_CHOSEN]
    return sorted(use.query for use in most)


def _title(canvas: _Canvas, study: QueryStatistics) -> None:
    y = _MARGIN_PX + 10
    name = f"What the queries of {study.card.preset} predict for {len(study.score):,} images"
    canvas.text(_MARGIN_PX, y, name, 22)
    what = "Every box is a dot at its middle, whatever its score:"
    x = canvas.text(_MARGIN_PX, y + 34, what, 15, _SOFT) + 14
    for color, kind in ((_SMALL, "small"), (_WIDE, "large, wide"), (_TALL, "large, tall")):
        canvas.dots(np.array([[x, y + 34]], dtype=np.float32), 5, [list(color)])
        x = canvas.text(x + 11, y + 34, kind, 15, _SOFT) + 20
    numbers = f"Below: how often the query scores above {study.threshold:.0%}, and as what mostly."
    if study.ranked:
        numbers += " Each image chooses its queries, best first: numbers are ranks."
    canvas.text(_MARGIN_PX, y + 56, numbers, 15, _SOFT)


def _panel(
    canvas: _Canvas, study: QueryStatistics, use: QueryUsage, left: Pixels, top: Pixels
) -> None:
    canvas.rectangle((left, top, left + _PANEL_PX, top + _PANEL_PX), _FRAME)
    boxes = study.cxcywh[:, use.query]
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    # Small dots over large ones: largest boxes first.
    boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")]
    corner = np.array([left, top], dtype=np.float32)
    centers = corner + _PANEL_PX * np.clip(boxes[:, :2], 0, 1)
    radius = float(np.clip(30 / math.sqrt(max(len(boxes), 1)), 1.1, 3.5))
    canvas.dots(centers.astype(np.float32), radius, dot_colors(boxes).tolist())
    share = use.answers / max(len(study.score), 1)
    main = next(iter(use.classes), "")
    caption = f"query {use.query}: {_percent(share)}" + (f", {main}" if main else "")
    canvas.text(left, top + _PANEL_PX + 13, _short(caption), 14, _INK if use.answers else _DEAD)


def _bars(canvas: _Canvas, study: QueryStatistics, uses: list[QueryUsage], top: Pixels) -> None:
    dead = sum(not use.answers for use in uses)
    told = f"Share of images in which a query answers above {study.threshold:.0%}"
    x = canvas.text(_MARGIN_PX, top + 10, f"{told}: ", 16)
    never = f"{dead} of {len(uses)} never do" if dead else f"all {len(uses)} do somewhere"
    canvas.text(x, top + 10, never, 16, _DEAD if dead else _INK)
    base = top + 44 + _BARS_PX
    most = max(max(use.answers for use in uses), 1)
    width = _COLUMNS * (_PANEL_PX + _GAP_PX) - _GAP_PX
    step = width / len(uses)
    canvas.rectangle((_MARGIN_PX, base, _MARGIN_PX + width, base + 0.5), _SOFT)
    for use in uses:
        left = _MARGIN_PX + use.query * step
        high = _BARS_PX * use.answers / most
        right = left + max(0.8 * step, 1)
        if use.answers:
            canvas.rectangle((left, base - high, right, base), _USED)
        else:
            canvas.rectangle((left, base - 4, right, base), _DEAD)
    highest = _percent(most / max(len(study.score), 1))
    canvas.text(_MARGIN_PX + 4, base - _BARS_PX - 9, highest, 13, _SOFT)
    canvas.text(_MARGIN_PX, base + 14, "query 0", 13, _SOFT)
    last = f"query {len(uses) - 1}"
    canvas.text(_MARGIN_PX + width - 62, base + 14, last, 13, _SOFT)


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.1 else f"{share:.1%}"


def _short(text: str, limit: int = 26) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
