"""Tiles for training: parts of large images, at the scale at which prediction in tiles shows them.

A model that predicts in tiles sees whole images, tiles with objects, some of which a border cuts,
and tiles without any. It learns from all of these. Objects that are specks in the whole image are
no targets there: they are many, nothing could be learned from them, and tiles find them.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from setmatch.data.batches.decoded_images import Decoded
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import ConfigError
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.ops.image_size import evaluation_px, tile_side_px
from setmatch.setting_values import TileSide
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks

WHOLE = 0.25  # fraction of the images that are seen whole
AROUND_OBJECT = 0.75  # fraction of the tiles that show a drawn object; others may be anywhere
LEAST_VISIBLE = 0.3  # fraction of a box inside the tile, below which it is not a target
SPECK_PX = 16  # a cell of the middle feature map: a smaller object of a whole image is not one
_ROUNDING_PX = 1e-2  # of boxes, which are fractions of the image


@dataclass(frozen=True)
class RandomTile:
    """Show a random tile of `side_px` instead of most images that are larger than that.

    Whole images are resized by `preprocessing`. All random numbers are torch's. An image that is no
    larger than a tile stays whole, without any.
    """

    side_px: int
    preprocessing: Preprocessing

    def __call__(self, image: Decoded) -> Decoded:
        """Return the image, or a tile of it, with the objects that are visible there."""
        pixels, target = image
        height, width = pixels.shape[1:]
        if max(height, width) <= self.side_px:
            return image
        if torch.rand(()) < WHOLE:
            return pixels, _without_specks(
                target, evaluation_px((height, width), self.preprocessing)
            )
        size_px = min(self.side_px, height), min(self.side_px, width)
        free_y, free_x = height - size_px[0], width - size_px[1]
        ranges = (0, free_y), (0, free_x)
        if len(target) and torch.rand(()) < AROUND_OBJECT:
            sides = torch.tensor([width, height, width, height])
            chosen = target.cxcywh[_draw(0, len(target) - 1)]
            x0, y0, x1, y1 = (cxcywh_to_xyxy(chosen) * sides).tolist()
            ranges = _around(y0, y1, size_px[0], free_y), _around(x0, x1, size_px[1], free_x)
        top, left = (_draw(*each) for each in ranges)
        return cut_tile(image, (top, left), size_px)


def tile_of(tiles: TileSide, preprocessing: Preprocessing) -> RandomTile | None:
    """Return the tiles of a recipe's `data.tiles`; None for none."""
    return None if tiles is None else RandomTile(tile_side_px(tiles, preprocessing), preprocessing)


def cut_tile(image: Decoded, corner_px: tuple[int, int], size_px: tuple[int, int]) -> Decoded:
    """Return a part of an image, by its upper left corner (y, x) and its (height, width).

    Boxes are clipped to it; those of which less than LEAST_VISIBLE is inside are left out, and so
    are their masks.
    """
    pixels, target = image
    height, width = pixels.shape[1:]
    (top, left), (tall, wide) = corner_px, size_px
    sides = target.cxcywh.new_tensor([width, height, width, height])
    xyxy: Float[Tensor, "M 4"] = cxcywh_to_xyxy(target.cxcywh) * sides
    shifted = xyxy - xyxy.new_tensor([left, top, left, top])
    corners = xyxy.new_tensor([wide, tall, wide, tall])
    clipped = torch.minimum(shifted.clamp(min=0), corners)
    inside = (clipped[:, 2:] - clipped[:, :2]).clamp(min=0).prod(dim=1)
    keep = (inside > 0) & (inside >= LEAST_VISIBLE * (xyxy[:, 2:] - xyxy[:, :2]).prod(dim=1))
    masks = target.masks
    if masks is not None:
        masks = _in_size(masks[keep], (height, width)).crop(corner_px, size_px)
    part = pixels[:, top : top + tall, left : left + wide]
    return part, Target(target.classes[keep], xyxy_to_cxcywh(clipped[keep] / corners), masks)


def require_larger_images(dataset: DetectionDataset, side_px: int) -> None:
    """Raise ConfigError if no image of the data set is larger than a tile of `side_px`."""
    largest = dataset.sizes_px[dataset.sizes_px.max(axis=1).argmax()]
    if largest.max() <= side_px:
        height, width = largest.tolist()
        raise ConfigError(
            f"tiles of {side_px} px: no training image is larger (the largest has {width}x{height} "
            "px); give a smaller side (--tiles SIDE), or train without tiles (data.tiles=null)"
        )


def _without_specks(target: Target, size_px: tuple[int, int]) -> Target:
    """Return the objects that are large enough in an image that is resized to this size."""
    area_px: Float[Tensor, " M"] = target.cxcywh[:, 2:].prod(dim=1) * size_px[0] * size_px[1]
    keep = area_px >= SPECK_PX**2
    masks = None if target.masks is None else target.masks[keep]
    return Target(target.classes[keep], target.cxcywh[keep], masks)


def _around(low: float, high: float, tile_px: int, free_px: int) -> tuple[int, int]:
    """Return the range of the start of a tile that shows the object from `low` to `high`.

    All of the object, if it fits into the tile; otherwise as much of it as does.
    """
    first, last = math.ceil(high - tile_px - _ROUNDING_PX), math.floor(low + _ROUNDING_PX)
    ends = sorted(min(max(end, 0), free_px) for end in (first, last))
    return ends[0], ends[1]


def _in_size(masks: PackedMasks, size_px: tuple[int, int]) -> PackedMasks:
    """Return masks in the size of their image, which may be smaller than annotated."""
    if (masks.bits.shape[1], masks.width_px) == size_px:
        return masks
    nearest = F.InterpolationMode.NEAREST
    return PackedMasks.from_planes(F.resize(masks.planes(), list(size_px), nearest), len(masks))


def _draw(low: int, high: int) -> int:
    """Return a random integer from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, ()))
