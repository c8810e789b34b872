"""The images with the worst mistakes, to be looked at."""

from dataclasses import dataclass

import numpy as np

from setmatch.evaluate.diagnosis.judged import Judged


@dataclass(frozen=True)
class Mistakes:
    """An image (its number in the index), and what detections above the thresholds made of it."""

    image: int
    name: str
    found: int
    missed: int
    false_alarms: int


def worst_images(judged: Judged, most: int) -> tuple[Mistakes, ...]:
    """Return the images with most mistakes, worst first; those without are left out.

    Mistakes weigh by their share of the image, so that neither a crowd with a tenth of it missed
    nor a single object that was not found comes first everywhere.
    """
    index, number = judged.index, len(judged.index)
    image_of_truth = np.repeat(np.arange(number), np.diff(index.offsets))
    objects = np.bincount(image_of_truth[~index.crowd], minlength=number)
    right = judged.truth[judged.shown & judged.right]
    found = np.bincount(image_of_truth[right], minlength=number)
    wrong = judged.shown & ~judged.right
    by_id = index.image_ids.argsort()
    wrong_image = by_id[np.searchsorted(index.image_ids[by_id], judged.results.image_ids[wrong])]
    false_alarms = np.bincount(wrong_image, minlength=number)
    mistakes = objects - found + false_alarms
    weight = mistakes**2 / np.maximum(mistakes + found, 1)
    worst = (-weight).argsort(kind="stable")[:most]
    return tuple(
        Mistakes(
            image,
            index.name(image),
            int(found[image]),
            int(objects[image] - found[image]),
            int(false_alarms[image]),
        )
        for image in worst.tolist()
        if mistakes[image]
    )
