"""The number of object queries that fits a training split."""

import math

import numpy as np
from jaxtyping import Int64

from setmatch.data.audit.statistics import Objects, objects_of, resize_scales
from setmatch.data.batches.random_tile import SPECK_PX, RandomTile
from setmatch.data.dataset import DetectionDataset

NEARLY_ALL = 0.999  # quantile of the objects per image
# With at least MANY images, a single outlier with over FAR_OUT times the next count is ignored.
MANY, FAR_OUT = 20, 2
FEWEST, MOST = 30, 900


def shown_at_once(
    dataset: DetectionDataset, objects: Objects, tile: RandomTile | None
) -> Int64[np.ndarray, " N"]:
    """Return the number of objects of each image, or the largest number in a view of it."""
    if tile is None:
        return np.bincount(objects.image, minlength=len(dataset))
    scale = resize_scales(dataset.sizes_px, tile.preprocessing)[objects.image]
    sides_px = np.sqrt(objects.xywh_px[:, 2:].prod(axis=1)) * scale
    whole = np.bincount(objects.image[sides_px >= SPECK_PX], minlength=len(dataset))
    # Tiles at every half of their side, by the centers of the objects.
    step_px = tile.side_px / 2
    cells = ((objects.xywh_px[:, :2] + objects.xywh_px[:, 2:] / 2) // step_px).astype(np.int64)
    tiles_of = [
        np.column_stack([objects.image, cells - [right, below]])
        for right in (0, 1)
        for below in (0, 1)
    ]
    shown, counts = np.unique(np.concatenate(tiles_of), axis=0, return_counts=True)
    densest = np.zeros(len(dataset), dtype=np.int64)
    np.maximum.at(densest, shown[:, 0], counts)
    return np.maximum(whole, densest)


def usual_objects(training: DetectionDataset, tile: RandomTile | None = None) -> int:
    """Return the largest number of objects in an image, without outliers.

    One image in a thousand may have more, and so may a single image that is far more crowded than
    all others. With `tile` it is that of a tile, or of a whole image without its specks.
    """
    counts = np.sort(shown_at_once(training, objects_of(training), tile))
    if not len(counts):
        return 0
    usual = int(np.quantile(counts, NEARLY_ALL, method="higher"))
    if len(counts) >= MANY and usual == counts[-1] > FAR_OUT * counts[-2] > 0:
        return int(counts[-2])
    return usual


def queries_for(training: DetectionDataset, tile: RandomTile | None = None) -> int:
    """Return 1.5 times the usual maximum of objects per image, rounded up to tens, in 30..900.

    The extra queries learn to predict "no object".
    """
    return min(max(10 * math.ceil(0.15 * usual_objects(training, tile)), FEWEST), MOST)
