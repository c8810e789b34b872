"""How many queries a model needs: a number that follows from the data."""

import math

import numpy as np

from setmatch.data.index import Index
from setmatch.data.survey.facts import objects_of

NEARLY_ALL = 0.999  # of the images: a single one that is fuller than all others decides nothing
FEWEST, MOST = 30, 900


def usual_objects(training: Index) -> int:
    """Return how many objects nearly every image has at most."""
    counts = np.bincount(objects_of(training).image, minlength=len(training))
    return int(np.quantile(counts, NEARLY_ALL, method="higher")) if len(counts) else 0


def queries_for(training: Index) -> int:
    """Return half as many again as nearly every image has objects, in tens, from 30 to 900.

    So nearly every object finds its slot, and the slots that are left learn to stay silent.
    """
    return min(max(10 * math.ceil(0.15 * usual_objects(training)), FEWEST), MOST)
