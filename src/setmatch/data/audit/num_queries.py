"""The number of object queries that fits a training split."""

import math

import numpy as np

from setmatch.data.audit.statistics import objects_of
from setmatch.data.dataset import DetectionDataset

NEARLY_ALL = 0.999  # quantile of the objects per image
# With at least MANY images, a single outlier with over FAR_OUT times the next count is ignored.
MANY, FAR_OUT = 20, 2
FEWEST, MOST = 30, 900


def usual_objects(training: DetectionDataset) -> int:
    """Return the largest number of objects in an image, without outliers.

    One image in a thousand may have more, and so may a single image that is far more crowded than
    all others.
    """
    counts = np.sort(np.bincount(objects_of(training).image, minlength=len(training)))
    if not len(counts):
        return 0
    usual = int(np.quantile(counts, NEARLY_ALL, method="higher"))
    if len(counts) >= MANY and usual == counts[-1] > FAR_OUT * counts[-2] > 0:
        return int(counts[-2])
    return usual


def queries_for(training: DetectionDataset) -> int:
    """Return 1.5 times the usual maximum of objects per image, rounded up to tens, in 30..900.

    The extra queries learn to predict "no object".
    """
    return min(max(10 * math.ceil(0.15 * usual_objects(training)), FEWEST), MOST)
