"""What generated scenes are painted with: backgrounds, clutter, shapes, colors and patterns."""

import colorsys
import math

import numpy as np
from jaxtyping import Float32, Float64, Int16
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
STUFF = ("sky", "ground", "water")

Canvas = Float32[np.ndarray, "h w 3"]  # 0..255
Kinds = Int16[np.ndarray, "h w"]
Mask = Float32[np.ndarray, "h w"]  # 0..1
Color = Float64[np.ndarray, "3"]
Polygon = Float64[np.ndarray, "P 2"]  # x, y

_ROUND = np.linspace(0, 2 * math.pi, 64, endpoint=False)
_ARM = 0.34  # half the width of a cross's arms


def shape_polygons(name: str) -> list[Polygon]:
    """Return a shape of radius 1 around the origin: its outline, then that of its hole, if any."""
    circle = _polar(_ROUND, np.ones(64))
    shapes = {
        "circle": [circle],
        "square": [_polar(_corners(4) + math.pi / 4, np.ones(4))],
        "triangle": [_polar(_corners(3), np.ones(3))],
        "star": [_polar(_corners(10), np.tile([1, 0.44], 5))],
        "cross": [_cross()],
        "ring": [circle, 0.56 * circle],
    }
    return shapes[name]


def textured_background(rng: np.random.Generator, side: int) -> Canvas:
    """Paint a blend of related colors, textured with clouds, cloth, ripples or grain."""
    hue = rng.uniform()
    colors = [_vivid(rng, hue + rng.normal(0, 0.07), (0.15, 0.7), (0.3, 0.95)) for _ in range(9)]
    grid = np.stack(colors).reshape(3, 3, 3)
    canvas = np.stack([_enlarged(grid[..., channel], side, side) for channel in range(3)], axis=-1)
    texture = (_clouds, _cloth, _ripples, _grain)[int(rng.integers(4))]
    tint = rng.uniform(0.6, 1, 3) * rng.uniform(5, 22)
    return np.asarray(canvas + texture(rng, side, side)[..., None] * tint, dtype=np.float32)


def landscape(rng: np.random.Generator, side: int) -> tuple[Canvas, Kinds]:
    """Paint sky over ground, often with water; return each pixel's position in STUFF too."""
    height = np.arange(side, dtype=np.float32)[:, None] / side
    kinds = np.where(height < _coast(rng, side, (0.2, 0.5)), 0, 1).astype(np.int16)
    if rng.random() < 0.75:
        shore = _coast(rng, side, (0.5, 0.85))
        # A lake, or a river with ground on both of its banks.
        width = 1 if rng.random() < 0.5 else _coast(rng, side, (0.12, 0.25))
        kinds[(kinds == 1) & (height > shore) & (height < shore + width)] = 2
    canvas = np.empty((side, side, 3), dtype=np.float32)
    for kind, paint in enumerate((_sky, _soil, _water)):
        canvas[kinds == kind] = paint(rng, side)[kinds == kind]
    return canvas, kinds


def clutter(rng: np.random.Generator, canvas: Canvas) -> Canvas:
    """Return the canvas with strokes, arcs and specks on it, which are not objects."""
    side = canvas.shape[0]
    overlay = Image.new("RGBA", (2 * side, 2 * side))
    draw = ImageDraw.Draw(overlay)
    for _ in range(int(rng.integers(3, 14))):
        ink = (*_vivid(rng, rng.uniform(), (0.0, 0.8), (0.1, 1.0)).astype(int).tolist(), 210)
        x, y = rng.uniform(0, 2 * side, 2)
        width = max(round(side * rng.uniform(0.006, 0.02)), 1)
        kind = rng.integers(3)
        if kind == 0:
            radius = side * rng.uniform(0.006, 0.022)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
        elif kind == 1:
            # Less than half a turn, so that no arc looks like a ring.
            radius, start = side * rng.uniform(0.08, 0.6), rng.uniform(0, 360)
            corners = (x - radius, y - radius, x + radius, y + radius)
            draw.arc(corners, start, start + rng.uniform(30, 150), fill=ink, width=width)
        else:
            heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.35, 12))
            steps = side * rng.uniform(0.01, 0.07) * np.stack([np.cos(heading), np.sin(heading)])
            points = np.array([x, y]) + np.cumsum(steps, axis=1).T
            draw.line([tuple(point) for point in points.tolist()], fill=ink, width=width)
    marks = np.asarray(overlay.reduce(2), dtype=np.float32)
    alpha = marks[..., 3:] / 255
    return np.asarray(canvas * (1 - alpha) + marks[..., :3] * alpha, dtype=np.float32)


def contrasting_color(rng: np.random.Generator, against: Color, hue: float | None = None) -> Color:
    """Return the random color of three, of `hue` if given, farthest from `against`."""
    if hue is None:
        colors = [_vivid(rng, rng.uniform(), (0.25, 1.0), (0.25, 1.0)) for _ in range(3)]
    else:
        colors = [_vivid(rng, hue, (0.6, 1.0), (0.5, 1.0)) for _ in range(3)]
    return max(colors, key=lambda color: float(np.abs(color - against).sum()))


def filled_patch(rng: np.random.Generator, color: Color, height: int, width: int) -> Canvas:
    """Paint a patch in a color: plain, striped, dotted, checkered or cloudy, lit from one side."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    period = 2 * math.pi / rng.uniform(3.5, 9)
    pattern = (
        np.zeros_like,
        lambda along: np.sin(along * period),
        lambda along: np.clip(4 * np.cos(along * period) * np.cos(across * period) - 1, -1, 1),
        lambda along: np.sign(np.sin(along * period) * np.sin(across * period)),
        lambda along: _clouds(rng, height, width),
    )[int(rng.integers(5))](along)
    light = rng.uniform(0.1, 0.3) * (2 * across / max(height, width) - 1) / 2
    strength = rng.choice([-1, 1]) * rng.uniform(0.12, 0.35)
    tone = 1 + strength * pattern + light * rng.choice([-1, 1])
    return np.asarray(color * tone[..., None], dtype=np.float32)


def _coast(rng: np.random.Generator, side: int, range_: tuple[float, float]) -> Mask:
    """Return the height of a line of hills at each column, as a fraction of the image side."""
    x = np.arange(side, dtype=np.float32) / side
    waves = rng.uniform(0, 2 * math.pi, 4)
    hills = [np.sin((2 * k - 1) * 2.2 * x + wave) / k for k, wave in enumerate(waves, 1)]
    return np.asarray(rng.uniform(*range_) + 0.05 * np.sum(hills, axis=0))[None].astype(np.float32)


def _sky(rng: np.random.Generator, side: int) -> Canvas:
    blue = _vivid(rng, rng.uniform(0.52, 0.64), (0.15, 0.6), (0.75, 1.0))
    paler = np.linspace(0, rng.uniform(0.3, 0.8), side)[:, None, None]
    clouds = np.clip(_clouds(rng, side, side) - rng.uniform(0, 0.8), 0, 1)[..., None]
    return _toward(blue + (255 - blue) * paler, 250.0, clouds)


def _soil(rng: np.random.Generator, side: int) -> Canvas:
    earth = _vivid(rng, rng.uniform(0.07, 0.36), (0.3, 0.75), (0.3, 0.75))
    rough = 18 * _grain(rng, side, side) + 14 * _clouds(rng, side, side)
    return np.asarray(earth + rough[..., None], dtype=np.float32)


def _water(rng: np.random.Generator, side: int) -> Canvas:
    deep = _vivid(rng, rng.uniform(0.48, 0.64), (0.5, 0.9), (0.25, 0.6))
    y = np.arange(side, dtype=np.float32)[:, None]
    bent = 2.5 * _enlarged(rng.uniform(-1, 1, (5, 5)), side, side)
    waves = np.sin(y * rng.uniform(0.6, 1.3) + bent) * rng.uniform(0.06, 0.16)
    return _toward(deep, 255.0, np.clip(waves, 0, 1)[..., None].astype(np.float32))


def _toward(
    color: NDArray[np.float64], other: float, amount: Float32[np.ndarray, "h w 1"]
) -> Canvas:
    """Return a color, or one per row, mixed with `amount` (0..1) of the gray level `other`."""
    return np.asarray(color + (other - color) * amount, dtype=np.float32)


def _corners(count: int) -> NDArray[np.float64]:
    return np.arange(count) * 2 * math.pi / count


def _polar(angle: NDArray[np.float64], radius: NDArray[np.float64]) -> Polygon:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _cross() -> Polygon:
    reach = math.sqrt(1 - _ARM**2)
    quarter = np.array([[reach, -_ARM], [reach, _ARM], [_ARM, _ARM]])
    turns = [np.array([[c, s], [-s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([quarter @ turn for turn in turns])


def _vivid(
    rng: np.random.Generator,
    hue: float,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Color:
    return 255 * np.array(
        colorsys.hsv_to_rgb(hue % 1, rng.uniform(*saturation), rng.uniform(*value))
    )


def _enlarged(grid: NDArray[np.float64], height: int, width: int) -> Mask:
    image = Image.fromarray(grid.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _clouds(rng: np.random.Generator, height: int, width: int) -> Mask:
    octaves = [rng.uniform(-1, 1, (cells, cells)) / k for k, cells in enumerate((4, 9, 20), 1)]
    enlarged = np.stack([_enlarged(grid, height, width) for grid in octaves])
    return enlarged.sum(axis=0, dtype=np.float32)


def _cloth(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.5, 1.4)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    return np.asarray(0.5 * (np.sin(along * period) + np.sin(across * period)))


def _ripples(rng: np.random.Generator, height: int, width: int) -> Mask:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(0.1, 0.6)
    bent = 2.5 * _enlarged(rng.uniform(-1, 1, (4, 4)), height, width)
    return np.asarray(np.sin((x * math.cos(angle) + y * math.sin(angle)) * period + bent))


def _grain(rng: np.random.Generator, height: int, width: int) -> Mask:
    return _enlarged(rng.uniform(-1, 1, (height // 2, width // 2)), height, width)
