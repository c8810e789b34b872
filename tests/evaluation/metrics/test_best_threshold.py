"""The best threshold has the highest F1 of all thresholds."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from setmatch.evaluation.metrics.best_threshold import best_threshold, f1_at

matches = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30)


def scores_at(threshold: float, scores: Any, right: Any, objects: int) -> tuple[float, ...]:
    """Return precision, recall and F1 of the detections that score at least `threshold`."""
    shown = [hit for score, hit in zip(scores, right, strict=True) if score >= threshold]
    found = sum(shown)
    return found / max(len(shown), 1), found / objects, 2 * found / (len(shown) + objects)


@given(matches, st.integers(1, 40))
def test_no_threshold_has_a_higher_f1(detections: list[tuple[int, bool]], more: int):
    """Checked by brute force over all scores."""
    scores = np.array([score / 20 for score, _ in detections])
    right = np.array([hit for _, hit in detections], dtype=bool)
    objects = int(right.sum()) + more
    best = best_threshold(scores, right, objects)
    every = [scores_at(t, scores, right, objects)[2] for t in {*scores.tolist(), 2.0}]
    if best is None:
        assert max(every) == 0
        return
    numbers = (best.precision, best.recall, best.f1)
    np.testing.assert_allclose(numbers, scores_at(best.score, scores, right, objects))
    assert best.f1 >= max(every) - 1e-12
    above = [scores_at(t, scores, right, objects)[2] for t in scores.tolist() if t > best.score]
    assert all(f1 < best.f1 for f1 in above if f1 != max(above))


def test_a_threshold_lies_between_scores():
    best = best_threshold(np.array([0.2, 0.9, 0.6]), np.array([False, True, True]), 2)
    assert best is not None
    assert (best.score, best.precision, best.recall) == (0.4, 1, 1)


def test_equal_scores_are_on_the_same_side_of_the_threshold():
    best = best_threshold(np.array([0.5, 0.5]), np.array([True, False]), 1)
    assert best is not None
    assert (best.score, best.precision, best.recall) == (0.25, 0.5, 1)


def test_no_correct_detection_means_no_threshold():
    nothing = np.zeros(0)
    assert best_threshold(nothing, nothing.astype(bool), 3) is None
    assert best_threshold(np.array([0.9]), np.array([False]), 3) is None
    assert best_threshold(np.array([0.9]), np.array([False]), 0) is None


@given(matches, st.integers(0, 40))
def test_f1_at_equals_the_definition(detections: list[tuple[int, bool]], more: int):
    scores = np.array([score / 20 for score, _ in detections])
    right = np.array([hit for _, hit in detections], dtype=bool)
    objects = int(right.sum()) + more
    at = [0.0, 0.05, 0.5, 0.52, 1.0]
    for threshold, f1 in zip(at, f1_at(at, scores, right, objects), strict=True):
        shown = scores >= threshold
        expected = 2 * (right & shown).sum() / max(shown.sum() + objects, 1)
        assert abs(f1 - expected) < 1e-12
