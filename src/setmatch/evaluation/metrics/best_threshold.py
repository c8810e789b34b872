"""Find the score threshold with the highest F1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64


@dataclass(frozen=True)
class Threshold:
    """A score threshold, and the precision, recall and F1 of the detections that reach it."""

    score: float
    precision: float
    recall: float
    f1: float


def best_threshold(
    scores: Float64[np.ndarray, " D"], right: Bool[np.ndarray, " D"], objects: int
) -> Threshold | None:
    """Return the threshold with the highest F1; None if no detection is correct.

    If several have the same F1, the highest threshold is returned. It lies halfway between the
    lowest score above it and the next lower score (or 0), so no score equals it. `right` marks the
    correct detections. A match depends only on detections with higher scores, so a threshold does
    not change the matches above it.
    """
    if not right.any() or not objects:
        return None
    order = scores.argsort()[::-1]
    ordered = scores[order]
    matches = right[order].cumsum()
    f1 = 2 * matches / (np.arange(1, len(ordered) + 1) + objects)
    is_last_of_equals = np.append(ordered[:-1] > ordered[1:], True)
    best = int(np.where(is_last_of_equals, f1, -1).argmax())
    next_lower = ordered[best + 1] if best + 1 < len(ordered) else 0.0
    return Threshold(
        score=float((ordered[best] + next_lower) / 2),
        precision=float(matches[best] / (best + 1)),
        recall=float(matches[best] / objects),
        f1=float(f1[best]),
    )


def f1_at(
    thresholds: Sequence[float],
    scores: Float64[np.ndarray, " D"],
    right: Bool[np.ndarray, " D"],
    objects: int,
) -> tuple[float, ...]:
    """Return, for each threshold, the F1 of the detections that score at least the threshold."""
    order = scores.argsort()
    shown = len(order) - np.searchsorted(scores[order], thresholds)
    matches = np.append(right[order][::-1].cumsum()[::-1], 0)[len(order) - shown]
    return tuple((2 * matches / np.maximum(shown + objects, 1)).tolist())
