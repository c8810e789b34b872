"""To which size images are resized, and how large their tiles are."""

from typing import Literal

from setmatch.structures.metadata import Preprocessing


def resized_px(size_px: tuple[int, int], short_px: int, long_px: int) -> tuple[int, int]:
    """Return the (height, width) to resize to: short side `short_px`, long side at most `long_px`.

    The published rule (DETR): if the long side would exceed `long_px`, the short side becomes
    S = round(long_px · short / long); the long side is int(S · long / short). A short side is at
    least one pixel.
    """
    short, long = sorted(size_px)
    if long / short * short_px > long_px:
        short_px = round(long_px * short / long)
    other_px = int(short_px * long / short) if short_px else long_px
    sides = (max(short_px, 1), other_px)
    return sides if size_px[0] <= size_px[1] else sides[::-1]


def evaluation_px(size_px: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) to which images are resized outside of training."""
    if not preprocessing.resizes:
        return size_px
    if preprocessing.size_px is not None:
        return preprocessing.size_px
    return resized_px(size_px, preprocessing.short_side_px, preprocessing.long_side_px)


def tile_side_px(tiles: int | Literal["auto"], preprocessing: Preprocessing) -> int:
    """Return the side of a tile; "auto" is that of the images that the model takes."""
    if tiles != "auto":
        return tiles
    return min(preprocessing.size_px or (preprocessing.short_side_px,))
