"""How large pictures must be seen for their objects to be told: sides that follow from the data."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from setmatch.config import DataSettings
from setmatch.data.audit.statistics import objects_of, scales
from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Preprocessing

SIDES_PX = (160, 192, 256, 320)  # to choose from, where a recipe leaves it to the data
LEGIBLE_PX = 48  # three cells of the middle features
SMALLEST = 0.1  # of the objects, which may be smaller than that
LONG_TO_SHORT = 2


def resolve_image_size(data: DataSettings, training: DetectionDataset) -> DataSettings:
    """Return the settings with numbers for the sides that are to follow from the training split."""
    short_px, long_px = data.short_side_px, data.long_side_px
    if short_px == "auto":
        short_px = legible_side_px(training, SIDES_PX)
    if long_px == "auto":
        long_px = LONG_TO_SHORT * short_px
    return data.model_copy(update={"short_side_px": short_px, "long_side_px": long_px})


def preprocessing_of(data: DataSettings) -> Preprocessing:
    """Return the preprocessing that settled settings ask for."""
    short_px, long_px = data.short_side_px, data.long_side_px
    known = "sides are numbers once the data are known"
    assert short_px != "auto", known
    assert long_px != "auto", known
    return Preprocessing(short_px, long_px)


def legible_side_px(training: DetectionDataset, sides_px: Sequence[int]) -> int:
    """Return the first of `sides_px`, ascending, that shows nine of ten objects large enough.

    Sides that most pictures do not have are left out, but for the first: enlarging shows nothing
    new.
    """
    native_px = float(np.median(training.sizes_px.min(axis=1)))
    first, *larger = sides_px
    allowed = [first, *(side for side in larger if side <= native_px)]
    of_one = smallest_px(training, 1)  # all grows with the side
    return next((side for side in allowed if side * of_one >= LEGIBLE_PX), allowed[-1])


def smallest_px(training: DetectionDataset, short_px: int) -> float:
    """Return the size, √area, than which nine of ten objects are larger; 0 without objects."""
    seen = seen_px(training, Preprocessing(short_px, LONG_TO_SHORT * short_px))
    return float(np.quantile(seen, SMALLEST)) if len(seen) else 0.0


def seen_px(index: DetectionDataset, preprocessing: Preprocessing) -> Float64[np.ndarray, " A"]:
    """Return the size, √area, in which the model sees each object."""
    objects = objects_of(index)
    return np.sqrt(objects.area_px) * scales(index.sizes_px, preprocessing)[objects.image]
