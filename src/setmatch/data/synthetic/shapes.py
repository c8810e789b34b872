"""Shapes that are cut out and stuck onto the canvas of a generated scene."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from setmatch.data.synthetic.textures import Canvas, Mask, Polygon, contrasting, filling, outlines

_FINER = 3  # shapes are drawn this much larger and averaged, for smooth edges


@dataclass(frozen=True)
class Cutout:
    """A shape cut out for a place: `alpha` fills the `window` of the canvas."""

    window: tuple[slice, slice]
    alpha: Mask
    polygons: list[Polygon]  # in the window's pixels
    radius: float

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Which pixels of the window the shape hides."""
        return np.asarray(self.alpha > 0.5)


def cut_out(rng: np.random.Generator, name: str, side: int, radii: tuple[float, float]) -> Cutout:
    """Draw a shape of a radius between `radii` (fractions of `side`), for a place on the canvas."""
    radius = side * math.exp(rng.uniform(*np.log(radii)))
    center = rng.uniform(0.6 * radius, side - 0.6 * radius, 2)
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.78, 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygons = [radius * ((line * [1, squeeze]) @ turn) + center for line in outlines(name)]
    margin = 1.3 * radius + 2  # for the shadow
    x0, y0 = (max(math.floor(middle - margin), 0) for middle in center)
    x1, y1 = (min(math.ceil(middle + margin), side) for middle in center)
    local = [polygon - [x0, y0] for polygon in polygons]
    image = Image.new("L", ((x1 - x0) * _FINER, (y1 - y0) * _FINER))
    draw = ImageDraw.Draw(image)
    for polygon, ink in zip(local, (255, 0), strict=False):
        draw.polygon(_finer(polygon), fill=ink)
    return Cutout((slice(y0, y1), slice(x0, x1)), _averaged(image), local, radius)


def _edge(sticker: Cutout) -> Mask:
    """Return the line along the inside of a shape's outlines."""
    height, width = sticker.alpha.shape
    image = Image.new("L", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(image)
    # Twice as thick as it looks, because only the inner half is seen.
    thickness = round(2 * _FINER * max(0.09 * sticker.radius, 1.2))
    for polygon in sticker.polygons:
        joint = "curve" if len(polygon) < 20 else None  # circles look round without, and sooner
        draw.line(_finer(np.concatenate([polygon, polygon[:2]])), 255, thickness, joint)
    return np.minimum(_averaged(image), sticker.alpha)


def _finer(polygon: Polygon) -> list[tuple[float, ...]]:
    return [tuple(point) for point in (polygon * _FINER).tolist()]


def _averaged(image: Image.Image) -> Mask:
    return np.asarray(image.reduce(_FINER), dtype=np.float32) / np.float32(255)


def stick(
    rng: np.random.Generator, canvas: Canvas, sticker: Cutout, hue: float | None = None
) -> None:
    """Paint a shape of a hue, or of any: a shadow under it, a line around it, or neither."""
    patch = canvas[sticker.window]
    style = rng.integers(3)
    if style == 0:
        patch *= 1 - 0.5 * _shadow(rng, sticker)[..., None]
    color = contrasting(rng, patch[sticker.covered].mean(axis=0).astype(np.float64), hue)
    paint = filling(rng, color, *sticker.alpha.shape)
    if style == 1:
        line = color * rng.uniform(0.3, 0.5) if rng.random() < 0.7 else 255 - 0.2 * (255 - color)
        paint += (line.astype(np.float32) - paint) * _edge(sticker)[..., None]
    patch += (paint - patch) * sticker.alpha[..., None]


def _shadow(rng: np.random.Generator, sticker: Cutout) -> Mask:
    angle = rng.uniform(0, 2 * math.pi)
    shift = 0.16 * sticker.radius
    image = Image.fromarray((255 * sticker.alpha).astype(np.uint8))
    moved = image.transform(
        image.size,
        Image.Transform.AFFINE,
        (1, 0, shift * math.cos(angle), 0, 1, shift * math.sin(angle)),
    )
    blurred = moved.filter(ImageFilter.GaussianBlur(0.09 * sticker.radius))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)
