"""Draw figures of attention, as in the paper's figures 3 and 6, and of boxes by decoder layer."""

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

from setmatch.data.images.writing import write_image
from setmatch.errors import ConfigError
from setmatch.explanation.explained_image import ExplainedImage
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.ops.colors import Color, color_of
from setmatch.structures.attention import AttentionMaps, QueryPredictions, SamplingPoints
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.visualize.boxes import draw

Point = tuple[float, float]  # x, y in pixels of the image
Heatmap = Float32[np.ndarray, "H W"]  # attention relative to its peak, 0..1

_LONG_SIDE_PX = 1000
_MAX_OBJECTS = 12
_MAX_POINTS = 9
_DEFAULT_POINTS = 4
_GAP_PX = 16
_BACKGROUND: Color = (255, 255, 255)
_TEXT: Color = (29, 31, 36)
_SHADE: Color = (8, 10, 20)
_SHADE_OPACITY = 0.8  # where there is no attention
_GAMMA = 0.6  # makes low attention visible


def write_figures(explained: ExplainedImage, folder: Path, points: Sequence[Point]) -> list[Path]:
    """Write decoder.png, layers.png and, if the encoder has layers, encoder.png.

    Raises ConfigError if a point is outside the image, or if there are points but no encoder
    layers.
    """
    _check_points(explained, points)
    figures = {"decoder.png": decoder_figure(explained), "layers.png": layers_figure(explained)}
    if len(explained.trace.encoder):
        figures["encoder.png"] = encoder_figure(explained, points or _default_points(explained))
    for name, figure in figures.items():
        write_image(folder / name, figure, "PNG", optimize=True)
    return [folder / name for name in figures]


def decoder_figure(explained: ExplainedImage) -> Image.Image:
    """Draw the attention of the last decoder layer for each detection, in a color of its own.

    Heads are averaged, and only the best detections are shown. A place that several queries attend
    to has the color of the query with the most attention.
    """
    image, shown, queries = _best_detections(explained)
    attention = explained.trace.cross_attention
    dimmed = Image.blend(image.convert("L").convert("RGB"), Image.new("RGB", image.size), 0.45)
    if isinstance(attention, AttentionMaps):
        maps = attention.weights[-1, :, queries].mean(0)
        figure = _overlay_heatmaps(dimmed, maps, attention.grid)
    else:
        figure = _draw_sampling_points(dimmed, attention, queries)
    return draw(figure, shown)


def encoder_figure(explained: ExplainedImage, points: Sequence[Point]) -> Image.Image:
    """Draw the attention of each point in the last encoder layer, averaged over heads."""
    image = _resize(explained)
    width, height = image.size
    scale = width / explained.image.shape[2]
    columns = math.ceil(math.sqrt(len(points)))
    # The tiles with their gaps cover the same area as the image.
    step_x, step_y = (width + _GAP_PX) / columns, (height + _GAP_PX * height / width) / columns
    tile_px = (max(1, round(step_x - _GAP_PX)), max(1, round(step_y - _GAP_PX * height / width)))
    canvas = Image.new("RGB", (2 * width + _GAP_PX, height), _BACKGROUND)
    canvas.paste(image, (0, 0))
    for number, (x, y) in enumerate(points):
        row, column = divmod(number, columns)
        attention = _encoder_attention(explained, (x, y))
        tile = _shade_by_attention(image, attention, explained.trace.encoder_grid)
        left, top = round(width + _GAP_PX + column * step_x), round(row * step_y)
        canvas.paste(tile.resize(tile_px, Image.Resampling.LANCZOS), (left, top))
        frame = (left, top, left + tile_px[0] - 1, top + tile_px[1] - 1)
        ImageDraw.Draw(canvas).rectangle(frame, outline=color_of(number), width=5)
        tile_scale = scale * tile_px[0] / width
        for center in ((x * scale, y * scale), (left + x * tile_scale, top + y * tile_scale)):
            _draw_marker(canvas, center, max(width, height) / 60, color_of(number), str(number + 1))
    return canvas


def layers_figure(explained: ExplainedImage) -> Image.Image:
    """Draw the boxes that score above the threshold after each decoder layer."""
    image = _resize(explained, _LONG_SIDE_PX * 3 // 5)
    trace = explained.trace
    steps = [("before the decoder", trace.start)]
    steps += [(f"decoder layer {number}", each) for number, each in enumerate(trace.after, 1)]
    available = [(name, predicted) for name, predicted in steps if predicted is not None]
    columns = min(3, len(available))
    rows = math.ceil(len(available) / columns)
    caption_px = 36
    step_x, step_y = image.width + _GAP_PX, image.height + caption_px + _GAP_PX
    canvas = Image.new("RGB", (columns * step_x - _GAP_PX, rows * step_y - _GAP_PX), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    for number, (name, predicted) in enumerate(available):
        row, column = divmod(number, columns)
        tile = draw(image, _scale(_layer_detections(explained, predicted), image.size))
        canvas.paste(tile, (column * step_x, row * step_y + caption_px))
        pen.text((column * step_x, row * step_y + 4), name, fill=_TEXT, font=_font(22))
    return canvas


def _best_detections(explained: ExplainedImage) -> tuple[Image.Image, Detections, Tensor]:
    """Return the resized image, the best detections in its pixels, and their queries.

    Each detection has a class of its own, so that each is drawn in its own color.
    """
    image = _resize(explained)
    detected = explained.shown(explained.detections)
    count = min(len(detected), _MAX_OBJECTS)
    names = tuple(
        detected.categories.name(class_index) for class_index in detected.classes[:count].tolist()
    )
    shown = Detections(
        detected.xyxy_px[:count],
        detected.scores[:count],
        torch.arange(count),
        Categories(tuple(range(count)), names),
        detected.size_px,
    )
    return image, _scale(shown, image.size), explained.queries[:count]


def _layer_detections(explained: ExplainedImage, predicted: QueryPredictions) -> Detections:
    height, width = explained.detections.size_px
    order = predicted.score.argsort(descending=True, stable=True)
    scale = torch.tensor([width, height, width, height])
    detected = Detections(
        cxcywh_to_xyxy(predicted.cxcywh[order]) * scale,
        predicted.score[order],
        predicted.class_index[order],
        explained.card.categories,
        explained.detections.size_px,
    )
    return explained.shown(detected)


def _scale(detected: Detections, size: tuple[int, int]) -> Detections:
    """Return detections in the pixels of a resized image (width, height)."""
    factor = size[0] / detected.size_px[1]
    return replace(detected, xyxy_px=detected.xyxy_px * factor, size_px=(size[1], size[0]))


def _resize(explained: ExplainedImage, long_side_px: int = _LONG_SIDE_PX) -> Image.Image:
    image = Image.fromarray(explained.image.permute(1, 2, 0).contiguous().numpy())
    factor = long_side_px / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    return image.resize((size[0], size[1]), Image.Resampling.LANCZOS)


def _heatmap(
    attention: Float[Tensor, " N"], grid: tuple[int, int], size: tuple[int, int]
) -> Heatmap:
    """Return an attention map resized to `size` (width, height), with its peak at 1."""
    cells = (attention / attention.max().clamp(min=1e-12)).view(1, 1, *grid)
    smooth = F.interpolate(cells, size=size[::-1], mode="bilinear", align_corners=False)
    return smooth[0, 0].clamp(0, 1).numpy()


def _overlay_heatmaps(
    image: Image.Image, maps: Float[Tensor, "M N"], grid: tuple[int, int]
) -> Image.Image:
    if not len(maps):
        return image
    heatmaps = np.stack([_heatmap(each, grid, image.size) for each in maps])
    colors = np.array([color_of(number) for number in range(len(maps))], dtype=np.float32)
    alpha = heatmaps.max(0)[..., None] * 0.85
    overlay = colors[heatmaps.argmax(0)]
    blended = np.asarray(image) * (1 - alpha) + overlay * alpha
    return Image.fromarray(blended.round().astype(np.uint8))


def _draw_sampling_points(
    image: Image.Image, attention: SamplingPoints, queries: Tensor
) -> Image.Image:
    """Draw the sampling points of the last layer as dots with areas proportional to weights."""
    canvas = ImageDraw.Draw(image, "RGBA")
    max_radius = max(image.size) / 90
    centers = attention.places[-1].mul(torch.tensor(image.size)).tolist()
    weights = attention.weights[-1]
    for number, query in reversed(list(enumerate(queries.tolist()))):
        max_weight = float(weights[:, query].max())
        for head, head_weights in enumerate(weights[:, query].tolist()):
            for (x, y), weight in zip(centers[head][query], head_weights, strict=True):
                radius = max(max_radius * math.sqrt(weight / max_weight), 1.5)
                circle = (x - radius, y - radius, x + radius, y + radius)
                canvas.ellipse(circle, fill=(*color_of(number), 215), outline=(255, 255, 255, 120))
    return image


def _encoder_attention(explained: ExplainedImage, point: Point) -> Float[Tensor, " N"]:
    rows, columns = explained.trace.encoder_grid
    height, width = explained.image.shape[1:]
    row = min(int(point[1] / height * rows), rows - 1)
    column = min(int(point[0] / width * columns), columns - 1)
    return explained.trace.encoder[-1, row * columns + column]


def _shade_by_attention(
    image: Image.Image, attention: Float[Tensor, " N"], grid: tuple[int, int]
) -> Image.Image:
    """Darken the image where there is little attention."""
    shade = Image.new("RGB", image.size, _SHADE)
    opacity = _SHADE_OPACITY * (1 - _heatmap(attention, grid, image.size) ** _GAMMA)
    return Image.composite(shade, image, Image.fromarray((255 * opacity).round().astype(np.uint8)))


def _draw_marker(image: Image.Image, center: Point, radius: float, color: Color, text: str) -> None:
    x, y = center
    pen = ImageDraw.Draw(image)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, (255, 255, 255), 3)
    pen.text((x, y), text, fill=(255, 255, 255), font=_font(round(1.3 * radius)), anchor="mm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _default_points(explained: ExplainedImage) -> list[Point]:
    """Return the centers of the best detections; without any, points at thirds of the image."""
    height, width = explained.detections.size_px
    xyxy_px = explained.shown(explained.detections).xyxy_px
    centers: Iterable[Point] = [
        (float(x), float(y)) for x, y in ((xyxy_px[:, :2] + xyxy_px[:, 2:]) / 2).tolist()
    ]
    inside = [(x, y) for x, y in centers if 0 <= x < width and 0 <= y < height]
    thirds = [(width * x / 3, height * y / 3) for y in (1, 2) for x in (1, 2)]
    return inside[:_DEFAULT_POINTS] or thirds


def _check_points(explained: ExplainedImage, points: Sequence[Point]) -> None:
    height, width = explained.detections.size_px
    if points and not len(explained.trace.encoder):
        raise ConfigError(
            f"model {explained.card.preset}: its encoder has no layers, so points have no "
            "attention to show; leave the points out"
        )
    if len(points) > _MAX_POINTS:
        raise ConfigError(f"{len(points)} points: a figure shows at most {_MAX_POINTS}")
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise ConfigError(f"point {x:g},{y:g}: outside the image of {width}×{height} pixels")
