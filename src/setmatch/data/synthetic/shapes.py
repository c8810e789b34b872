"""Cut out shapes, and paste them onto the canvas of a generated scene."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from setmatch.data.synthetic.textures import (
    Canvas,
    Mask,
    Polygon,
    contrasting_color,
    filled_patch,
    shape_polygons,
)

_SUPERSAMPLING = 3  # shapes are drawn this much larger, then averaged for smooth edges


@dataclass(frozen=True)
class Cutout:
    """A shape to paste into a `window` of the canvas; `alpha` is its opacity there."""

    window: tuple[slice, slice]
    alpha: Mask
    polygons: list[Polygon]  # in pixels of the window
    radius: float  # in pixels

    @property
    def covered(self) -> NDArray[np.bool_]:
        """True for the pixels of the window that the shape covers."""
        return np.asarray(self.alpha > 0.5)


def draw_cutout(
    rng: np.random.Generator, name: str, side: int, radii: tuple[float, float]
) -> Cutout:
    """Draw a shape at a random place, with a radius between `radii` (fractions of `side`)."""
    radius = side * math.exp(rng.uniform(*np.log(radii)))
    center = rng.uniform(0.6 * radius, side - 0.6 * radius, 2)
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.78, 1)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    polygons = [radius * ((line * [1, squeeze]) @ turn) + center for line in shape_polygons(name)]
    margin = 1.3 * radius + 2  # for the shadow
    x0, y0 = (max(math.floor(middle - margin), 0) for middle in center)
    x1, y1 = (min(math.ceil(middle + margin), side) for middle in center)
    local = [polygon - [x0, y0] for polygon in polygons]
    image = Image.new("L", ((x1 - x0) * _SUPERSAMPLING, (y1 - y0) * _SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    for polygon, ink in zip(local, (255, 0), strict=False):
        draw.polygon(_supersampled(polygon), fill=ink)
    return Cutout((slice(y0, y1), slice(x0, x1)), _averaged(image), local, radius)


def _edge(cutout: Cutout) -> Mask:
    """Return the opacity of a line along the inside of a shape's edges."""
    height, width = cutout.alpha.shape
    image = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    # Twice as thick as it looks, because only the inner half is visible.
    thickness = round(2 * _SUPERSAMPLING * max(0.09 * cutout.radius, 1.2))
    for polygon in cutout.polygons:
        joint = (
            "curve" if len(polygon) < 20 else None
        )  # circles look round without it, and draw faster
        draw.line(_supersampled(np.concatenate([polygon, polygon[:2]])), 255, thickness, joint)
    return np.minimum(_averaged(image), cutout.alpha)


def _supersampled(polygon: Polygon) -> list[tuple[float, ...]]:
    return [tuple(point) for point in (polygon * _SUPERSAMPLING).tolist()]


def _averaged(image: Image.Image) -> Mask:
    return np.asarray(image.reduce(_SUPERSAMPLING), dtype=np.float32) / np.float32(255)


def paste(
    rng: np.random.Generator, canvas: Canvas, cutout: Cutout, hue: float | None = None
) -> None:
    """Paint a shape, in `hue` if given: with a shadow under it, a line around it, or neither."""
    patch = canvas[cutout.window]
    style = rng.integers(3)
    if style == 0:
        patch *= 1 - 0.5 * _shadow(rng, cutout)[..., None]
    color = contrasting_color(rng, patch[cutout.covered].mean(axis=0).astype(np.float64), hue)
    paint = filled_patch(rng, color, *cutout.alpha.shape)
    if style == 1:
        line = color * rng.uniform(0.3, 0.5) if rng.random() < 0.7 else 255 - 0.2 * (255 - color)
        paint += (line.astype(np.float32) - paint) * _edge(cutout)[..., None]
    patch += (paint - patch) * cutout.alpha[..., None]


def _shadow(rng: np.random.Generator, cutout: Cutout) -> Mask:
    angle = rng.uniform(0, 2 * math.pi)
    shift = 0.16 * cutout.radius
    image = Image.fromarray((255 * cutout.alpha).astype(np.uint8))
    moved = image.transform(
        image.size,
        Image.Transform.AFFINE,
        (1, 0, shift * math.cos(angle), 0, 1, shift * math.sin(angle)),
    )
    blurred = moved.filter(ImageFilter.GaussianBlur(0.09 * cutout.radius))
    return np.asarray(blurred, dtype=np.float32) / np.float32(255)
