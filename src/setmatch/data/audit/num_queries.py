"""How many queries a model needs: a number that follows from the data."""

import math

import numpy as np

from setmatch.data.audit.statistics import objects_of
from setmatch.data.dataset import DetectionDataset

NEARLY_ALL = 0.999  # of the images
# Of so many a single one that has so many times the objects of any other decides nothing.
MANY, FAR_OUT = 20, 2
FEWEST, MOST = 30, 900


def usual_objects(training: DetectionDataset) -> int:
    """Return how many objects nearly every image has at most.

    All but one in a thousand, and but a single one that is far fuller than all others.
    """
    counts = np.sort(np.bincount(objects_of(training).image, minlength=len(training)))
    if not len(counts):
        return 0
    usual = int(np.quantile(counts, NEARLY_ALL, method="higher"))
    if len(counts) >= MANY and usual == counts[-1] > FAR_OUT * counts[-2] > 0:
        return int(counts[-2])
    return usual


def queries_for(training: DetectionDataset) -> int:
    """Return half as many again as nearly every image has objects, in tens, from 30 to 900.

    So nearly every object finds its slot, and the slots that are left learn to stay silent.
    """
    return min(max(10 * math.ceil(0.15 * usual_objects(training)), FEWEST), MOST)
