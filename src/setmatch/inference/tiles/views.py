"""The parts of an image that a model sees: all of it, and tiles that overlap."""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from setmatch.errors import ConfigError
from setmatch.setting_values import LEAST_TILE_PX

Tiles = int | Literal["auto"] | None  # side in pixels
OVERLAP = 0.2
MOST_OVERLAP = 0.9


@dataclass(frozen=True)
class Tiling:
    """How images are cut: square tiles of `side_px`, which share `overlap` of their side at least.

    Raises ConfigError for values out of range.
    """

    side_px: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if self.side_px < LEAST_TILE_PX:
            raise ConfigError(f"tiles = {self.side_px}: a tile has at least {LEAST_TILE_PX} pixels")
        require_overlap(self.overlap)


def require_overlap(overlap: float) -> None:
    """Raise ConfigError for a share of a tile's side that is out of range, also without tiles."""
    if not 0 <= overlap <= MOST_OVERLAP:
        raise ConfigError(f"overlap = {overlap}: tiles overlap by 0 to {MOST_OVERLAP}")


@dataclass(frozen=True)
class View:
    """A part of an image, in its pixels; the end is not included."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def size_px(self) -> tuple[int, int]:
        """The (height, width)."""
        return self.y1 - self.y0, self.x1 - self.x0


def images_at_once(tiles: Tiles, batch_size: int) -> int:
    """Return how many images to read at a time: with tiles one, as they come in their own size."""
    return batch_size if tiles is None else 1


def views_of(size_px: tuple[int, int], tiling: Tiling) -> list[View]:
    """Return the parts of an image of `size_px` (height, width): all of it, then its tiles.

    An image that is no larger than a tile has no tiles.
    """
    height, width = size_px
    whole = View(0, 0, width, height)
    if max(size_px) <= tiling.side_px:
        return [whole]
    rows, columns = (_spans(side, tiling) for side in size_px)
    return [whole, *(View(x0, y0, x1, y1) for (y0, y1), (x0, x1) in product(rows, columns))]


def _spans(image_px: int, tiling: Tiling) -> list[tuple[int, int]]:
    """Return the fewest tiles along one side of an image, evenly spaced."""
    side_px = min(tiling.side_px, image_px)
    new_px = max(side_px * (1 - tiling.overlap), 1.0)  # that each further tile shows, at most
    further = max(0, -int(-(image_px - side_px) // new_px))
    starts = [round(index * (image_px - side_px) / max(further, 1)) for index in range(further + 1)]
    return [(start, start + side_px) for start in starts]
