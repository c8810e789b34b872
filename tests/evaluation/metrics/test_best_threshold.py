"""The best threshold is the best of all there are."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from setmatch.evaluation.metrics.best_threshold import best_threshold, f1_at

judged = st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=30)


def shown_from(threshold: float, scores: Any, right: Any, objects: int) -> tuple[float, ...]:
    """Precision, recall and F1 of what scores at least so much, counted one by one."""
    shown = [hit for score, hit in zip(scores, right, strict=True) if score >= threshold]
    found = sum(shown)
    return found / max(len(shown), 1), found / objects, 2 * found / (len(shown) + objects)


@given(judged, st.integers(1, 40))
def test_no_threshold_is_better(detections: list[tuple[int, bool]], more: int):
    """Brute force over every cut: none has a higher F1, and the numbers told are those it gives."""
    scores = np.array([score / 20 for score, _ in detections])
    right = np.array([hit for _, hit in detections], dtype=bool)
    objects = int(right.sum()) + more
    best = best_threshold(scores, right, objects)
    every = [shown_from(t, scores, right, objects)[2] for t in {*scores.tolist(), 2.0}]
    if best is None:
        assert max(every) == 0
        return
    told = (best.precision, best.recall, best.f1)
    np.testing.assert_allclose(told, shown_from(best.score, scores, right, objects))
    assert best.f1 >= max(every) - 1e-12
    above = [shown_from(t, scores, right, objects)[2] for t in scores.tolist() if t > best.score]
    assert all(f1 < best.f1 for f1 in above if f1 != max(above))


def test_a_threshold_lies_between_scores():
    """Whether "at least" or "more than" is meant, the same detections are shown."""
    best = best_threshold(np.array([0.2, 0.9, 0.6]), np.array([False, True, True]), 2)
    assert best is not None
    assert (best.score, best.precision, best.recall) == (0.4, 1, 1)


def test_equal_scores_are_shown_together():
    """A threshold cannot tell equals apart, though one of them is right and one is wrong."""
    best = best_threshold(np.array([0.5, 0.5]), np.array([True, False]), 1)
    assert best is not None
    assert (best.score, best.precision, best.recall) == (0.25, 0.5, 1)


def test_nothing_right_has_no_threshold():
    """There is no best among equally useless ones."""
    nothing = np.zeros(0)
    assert best_threshold(nothing, nothing.astype(bool), 3) is None
    assert best_threshold(np.array([0.9]), np.array([False]), 3) is None
    assert best_threshold(np.array([0.9]), np.array([False]), 0) is None


@given(judged, st.integers(0, 40))
def test_the_curve_is_f1_at_each_threshold(detections: list[tuple[int, bool]], more: int):
    """Every point of the curve is what counting one by one gives."""
    scores = np.array([score / 20 for score, _ in detections])
    right = np.array([hit for _, hit in detections], dtype=bool)
    objects = int(right.sum()) + more
    at = [0.0, 0.05, 0.5, 0.52, 1.0]
    for threshold, f1 in zip(at, f1_at(at, scores, right, objects), strict=True):
        shown = scores >= threshold
        expected = 2 * (right & shown).sum() / max(shown.sum() + objects, 1)
        assert abs(f1 - expected) < 1e-12
