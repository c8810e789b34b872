"""The input size that shows the objects of a training split large enough."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from setmatch.config import DataSettings
from setmatch.data.audit.statistics import objects_of, resize_scales
from setmatch.data.dataset import DetectionDataset
from setmatch.ops.image_size import tile_side_px
from setmatch.setting_values import TileSide
from setmatch.structures.metadata import Preprocessing

SIDES_PX = tuple(DataSettings().auto_sides_px)
LEGIBLE_PX = 48  # three cells of the middle feature map
SMALLEST = 0.1  # fraction of the objects that may be smaller than that
LONG_TO_SHORT = 2


def resolve_image_size(data: DataSettings, training: DetectionDataset) -> DataSettings:
    """Return the settings with each "auto" side replaced by a number for this training split."""
    short_px, long_px = data.short_side_px, data.long_side_px
    if short_px == "auto":
        short_px = legible_side_px(training, data.auto_sides_px, data.tiles)
    if long_px == "auto":
        long_px = LONG_TO_SHORT * short_px
    return data.model_copy(update={"short_side_px": short_px, "long_side_px": long_px})


def preprocessing_of(data: DataSettings) -> Preprocessing:
    """Return the preprocessing of settings whose sides are numbers, not "auto"."""
    short_px, long_px = data.short_side_px, data.long_side_px
    message = "resolve_image_size comes first"
    assert short_px != "auto", message
    assert long_px != "auto", message
    return Preprocessing(short_px, long_px)


def legible_side_px(
    training: DetectionDataset, sides_px: Sequence[int], tiles: TileSide = None
) -> int:
    """Return the smallest of `sides_px`, ascending, at which 90% of the objects reach 48 px.

    Sides larger than those of most images are not considered (except the first), because
    upscaling adds no detail. Of `tiles` of a given side, it is the smallest for their objects;
    tiles "auto" are not resized, so that the largest is best: it cuts the fewest objects.
    """
    native_px = float(np.median(training.sizes_px.min(axis=1)))
    first, *larger = sides_px
    allowed = [first, *(side for side in larger if side <= native_px)]
    if tiles == "auto":
        return allowed[-1]
    return next(
        (side for side in allowed if smallest_px(training, side, tiles) >= LEGIBLE_PX), allowed[-1]
    )


def smallest_px(training: DetectionDataset, short_px: int, tiles: TileSide = None) -> float:
    """Return the 10th percentile of the object sizes √area after resizing; 0 without objects."""
    preprocessing = Preprocessing(short_px, LONG_TO_SHORT * short_px)
    sizes_px = resized_object_px(training, preprocessing, tiles)
    return float(np.quantile(sizes_px, SMALLEST)) if len(sizes_px) else 0.0


def resized_object_px(
    dataset: DetectionDataset, preprocessing: Preprocessing, tiles: TileSide = None
) -> Float64[np.ndarray, " M"]:
    """Return the size √area of each object after preprocessing of its image, or of a tile."""
    objects = objects_of(dataset)
    return np.sqrt(objects.area_px) * view_scales(dataset, preprocessing, tiles)[objects.image]


def view_scales(
    dataset: DetectionDataset, preprocessing: Preprocessing, tiles: TileSide = None
) -> Float64[np.ndarray, " N"]:
    """Return the factor by which preprocessing resizes each image, or a tile of it."""
    sizes_px = dataset.sizes_px
    if tiles is not None:
        sizes_px = np.minimum(sizes_px, tile_side_px(tiles, preprocessing))
    return resize_scales(sizes_px, preprocessing)
