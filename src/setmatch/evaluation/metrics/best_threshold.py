"""From which score on detections should be shown: the threshold of the highest F1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64


@dataclass(frozen=True)
class Threshold:
    """A score, and how many of the detections above it are right, and of the objects found."""

    score: float
    precision: float
    recall: float
    f1: float


def best_threshold(
    scores: Float64[np.ndarray, " D"], right: Bool[np.ndarray, " D"], objects: int
) -> Threshold | None:
    """Return the threshold of the highest F1, the highest such; None where nothing is right.

    It lies halfway between the last score that counts and the next lower one (or 0), so that it
    does not matter whether an equal score would count. Which detections are right depends on
    better ones alone, so that leaving out worse ones changes nothing above them.
    """
    if not right.any() or not objects:
        return None
    order = scores.argsort()[::-1]
    ordered = scores[order]
    found = right[order].cumsum()
    f1 = 2 * found / (np.arange(1, len(ordered) + 1) + objects)
    last_of_equals = np.append(ordered[:-1] > ordered[1:], True)
    best = int(np.where(last_of_equals, f1, -1).argmax())
    below = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return Threshold(
        score=float((ordered[best] + below) / 2),
        precision=float(found[best] / (best + 1)),
        recall=float(found[best] / objects),
        f1=float(f1[best]),
    )


def f1_at(
    thresholds: Sequence[float],
    scores: Float64[np.ndarray, " D"],
    right: Bool[np.ndarray, " D"],
    objects: int,
) -> tuple[float, ...]:
    """Return the F1 of the detections that score at least so much, for each of the thresholds."""
    order = scores.argsort()
    shown = len(order) - np.searchsorted(scores[order], thresholds)
    found = np.append(right[order][::-1].cumsum()[::-1], 0)[len(order) - shown]
    return tuple((2 * found / np.maximum(shown + objects, 1)).tolist())
