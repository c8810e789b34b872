"""Plain pictures in the manner of the paper's figures 3 and 6, and of boxes on their way."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from setmatch.errors import ConfigError
from setmatch.explanation.explain import Explanation
from setmatch.files import atomic_file
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.ops.colors import Color, color_of
from setmatch.structures.attention import AttentionMaps, QueryPredictions, SamplingPoints
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.visualize import draw

Point = tuple[float, float]  # x, y in pixels of the picture
Share = Float32[np.ndarray, "H W"]  # of the attention's peak, 0..1

_LONG_SIDE_PX = 1000
_MOST_OBJECTS = 12
_MOST_POINTS = 9
_POINTS = 4
_GAP_PX = 16
_PAPER: Color = (255, 255, 255)
_INK: Color = (29, 31, 36)
_NIGHT: Color = (8, 10, 20)
_DARKNESS = 0.8  # of what nobody looked at
_GAMMA = 0.6  # lifts what got little, so that it can be seen


def write_figures(explanation: Explanation, folder: Path, points: Sequence[Point]) -> list[Path]:
    """Write decoder.png, layers.png and, where the encoder has layers, encoder.png.

    Raises ConfigError for points that lie off the picture, or that no encoder can answer for.
    """
    _check_points(explanation, points)
    figures = {"decoder.png": decoder_figure(explanation), "layers.png": layers_figure(explanation)}
    if len(explanation.trace.encoder):
        figures["encoder.png"] = encoder_figure(explanation, points or _telling(explanation))
    for name, figure in figures.items():
        with atomic_file(folder / name) as aside:
            figure.save(aside, format="PNG", optimize=True)
    return [folder / name for name in figures]


def decoder_figure(explanation: Explanation) -> Image.Image:
    """Show what the last decoder layer looked at for each answer, in a color of its own.

    Heads are averaged; of many answers the best are shown. Where several objects were looked at
    from one place, it has the color of the one that looked there most.
    """
    picture, shown, queries = _shown(explanation)
    cross_attention = explanation.trace.cross_attention
    ground = Image.blend(picture.convert("L").convert("RGB"), Image.new("RGB", picture.size), 0.45)
    if isinstance(cross_attention, AttentionMaps):
        ground = _stained(
            ground, cross_attention.weights[-1, :, queries].mean(0), cross_attention.grid
        )
    else:
        ground = _dotted(ground, cross_attention, queries)
    return draw(ground, shown)


def encoder_figure(explanation: Explanation, points: Sequence[Point]) -> Image.Image:
    """Show what each of the points looked at in the last encoder layer, heads averaged."""
    picture = _enlarged(explanation)
    width, height = picture.size
    scale = width / explanation.image.shape[2]
    columns = math.ceil(math.sqrt(len(points)))
    # Tiles and the gaps between them are together as wide and as high as the picture.
    wide, high = (width + _GAP_PX) / columns, (height + _GAP_PX * height / width) / columns
    tile_px = (max(1, round(wide - _GAP_PX)), max(1, round(high - _GAP_PX * height / width)))
    canvas = Image.new("RGB", (2 * width + _GAP_PX, height), _PAPER)
    canvas.paste(picture, (0, 0))
    for number, (x, y) in enumerate(points):
        row, column = divmod(number, columns)
        seen = _lit(picture, _looked_at(explanation, (x, y)), explanation.trace.encoder_grid)
        left, top = round(width + _GAP_PX + column * wide), round(row * high)
        canvas.paste(seen.resize(tile_px, Image.Resampling.LANCZOS), (left, top))
        frame = (left, top, left + tile_px[0] - 1, top + tile_px[1] - 1)
        ImageDraw.Draw(canvas).rectangle(frame, outline=color_of(number), width=5)
        smaller = scale * tile_px[0] / width
        for at in ((x * scale, y * scale), (left + x * smaller, top + y * smaller)):
            _mark(canvas, at, max(width, height) / 60, color_of(number), str(number + 1))
    return canvas


def layers_figure(explanation: Explanation) -> Image.Image:
    """Show the boxes that score above the threshold after each decoder layer."""
    picture = _enlarged(explanation, _LONG_SIDE_PX * 3 // 5)
    trace = explanation.trace
    steps = [("before the decoder", trace.start)]
    steps += [(f"decoder layer {number}", each) for number, each in enumerate(trace.after, 1)]
    known = [(name, believed) for name, believed in steps if believed is not None]
    columns = min(3, len(known))
    rows = math.ceil(len(known) / columns)
    caption_px = 36
    wide, high = picture.width + _GAP_PX, picture.height + caption_px + _GAP_PX
    canvas = Image.new("RGB", (columns * wide - _GAP_PX, rows * high - _GAP_PX), _PAPER)
    pen = ImageDraw.Draw(canvas)
    for number, (name, believed) in enumerate(known):
        row, column = divmod(number, columns)
        tile = draw(picture, _scaled(_believed(explanation, believed), picture.size))
        canvas.paste(tile, (column * wide, row * high + caption_px))
        pen.text((column * wide, row * high + 4), name, fill=_INK, font=_font(22))
    return canvas


def _shown(explanation: Explanation) -> tuple[Image.Image, Detections, Tensor]:
    """Return the picture, the best answers as objects of their own classes, and their queries."""
    picture = _enlarged(explanation)
    found = explanation.found.above(explanation.threshold)
    count = min(len(found), _MOST_OBJECTS)
    names = tuple(
        found.categories.name(class_index) for class_index in found.classes[:count].tolist()
    )
    shown = Detections(
        found.xyxy_px[:count],
        found.scores[:count],
        torch.arange(count),
        Categories(tuple(range(count)), names),
        found.size_px,
    )
    return picture, _scaled(shown, picture.size), explanation.queries[:count]


def _believed(explanation: Explanation, believed: QueryPredictions) -> Detections:
    height, width = explanation.found.size_px
    order = believed.score.argsort(descending=True, stable=True)
    xyxy_px = cxcywh_to_xyxy(believed.cxcywh[order]) * torch.tensor([width, height, width, height])
    return Detections(
        xyxy_px,
        believed.score[order],
        believed.class_index[order],
        explanation.card.categories,
        explanation.found.size_px,
    ).above(explanation.threshold)


def _scaled(found: Detections, size: tuple[int, int]) -> Detections:
    """Return detections in the pixels of a picture of another size (width, height)."""
    factor = size[0] / found.size_px[1]
    return replace(found, xyxy_px=found.xyxy_px * factor, size_px=(size[1], size[0]))


def _enlarged(explanation: Explanation, long_px: int = _LONG_SIDE_PX) -> Image.Image:
    picture = Image.fromarray(explanation.image.permute(1, 2, 0).contiguous().numpy())
    factor = long_px / max(picture.size)
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _share(map: Float[Tensor, " N"], grid: tuple[int, int], size: tuple[int, int]) -> Share:
    """Return a map as a picture of `size` (width, height), its peak at 1."""
    cells = (map / map.max().clamp(min=1e-12)).view(1, 1, *grid)
    smooth = F.interpolate(cells, size=size[::-1], mode="bilinear", align_corners=False)
    return smooth[0, 0].clamp(0, 1).numpy()


def _stained(ground: Image.Image, maps: Float[Tensor, "M N"], grid: tuple[int, int]) -> Image.Image:
    if not len(maps):
        return ground
    shares = np.stack([_share(each, grid, ground.size) for each in maps])
    colors = np.array([color_of(number) for number in range(len(maps))], dtype=np.float32)
    alpha = shares.max(0)[..., None] * 0.85
    stain = colors[shares.argmax(0)]
    mixed = np.asarray(ground) * (1 - alpha) + stain * alpha
    return Image.fromarray(mixed.round().astype(np.uint8))


def _dotted(ground: Image.Image, cross_attention: SamplingPoints, queries: Tensor) -> Image.Image:
    """Draw the sampling points of the last layer, their areas like their weights."""
    canvas = ImageDraw.Draw(ground, "RGBA")
    largest = max(ground.size) / 90
    places = cross_attention.places[-1].mul(torch.tensor(ground.size)).tolist()
    weights = cross_attention.weights[-1]
    for number, query in reversed(list(enumerate(queries.tolist()))):
        most = float(weights[:, query].max())
        for head, shares in enumerate(weights[:, query].tolist()):
            for (x, y), share in zip(places[head][query], shares, strict=True):
                radius = max(largest * math.sqrt(share / most), 1.5)
                around = (x - radius, y - radius, x + radius, y + radius)
                canvas.ellipse(around, fill=(*color_of(number), 215), outline=(255, 255, 255, 120))
    return ground


def _looked_at(explanation: Explanation, point: Point) -> Float[Tensor, " N"]:
    rows, columns = explanation.trace.encoder_grid
    height, width = explanation.image.shape[1:]
    row = min(int(point[1] / height * rows), rows - 1)
    column = min(int(point[0] / width * columns), columns - 1)
    return explanation.trace.encoder[-1, row * columns + column]


def _lit(picture: Image.Image, map: Float[Tensor, " N"], grid: tuple[int, int]) -> Image.Image:
    """Leave bright what was looked at."""
    night = Image.new("RGB", picture.size, _NIGHT)
    dark = _DARKNESS * (1 - _share(map, grid, picture.size) ** _GAMMA)
    return Image.composite(night, picture, Image.fromarray((255 * dark).round().astype(np.uint8)))


def _mark(picture: Image.Image, at: Point, radius: float, color: Color, text: str) -> None:
    x, y = at
    pen = ImageDraw.Draw(picture)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, (255, 255, 255), 3)
    pen.text((x, y), text, fill=(255, 255, 255), font=_font(round(1.3 * radius)), anchor="mm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _telling(explanation: Explanation) -> list[Point]:
    """Return the middles of the best answers on the picture; thirds of it where there are none."""
    height, width = explanation.found.size_px
    found = explanation.found.above(explanation.threshold).xyxy_px
    middles: Iterable[Point] = [
        (float(x), float(y)) for x, y in ((found[:, :2] + found[:, 2:]) / 2).tolist()
    ]
    inside = [(x, y) for x, y in middles if 0 <= x < width and 0 <= y < height]
    thirds = [(width * x / 3, height * y / 3) for y in (1, 2) for x in (1, 2)]
    return inside[:_POINTS] or thirds


def _check_points(explanation: Explanation, points: Sequence[Point]) -> None:
    height, width = explanation.found.size_px
    if points and not len(explanation.trace.encoder):
        raise ConfigError(
            f"model {explanation.card.preset}: its encoder has no layers, so that no point of the "
            "picture looked at another; leave the points out"
        )
    if len(points) > _MOST_POINTS:
        raise ConfigError(f"{len(points)} points: a figure shows at most {_MOST_POINTS}")
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise ConfigError(f"point {x:g},{y:g}: off the picture of {width}×{height} pixels")
