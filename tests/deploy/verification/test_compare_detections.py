"""RankedDetections of two engines are compared detection by detection, and ties are ties."""

import re

import pytest
import torch

from setmatch.deploy.verification.compare_detections import (
    RankedDetections,
    Tolerance,
    compare_detections,
)
from setmatch.structures.metadata import Categories

PETS = Categories((1, 2), ("cat", "dog"))


def ranked(*rows: tuple[float, int, float]) -> RankedDetections:
    """RankedDetections of (score, class index, left side), each a box 10 pixels wide and high."""
    scores, classes, lefts = (torch.tensor(each) for each in zip(*rows))
    boxes = torch.stack([lefts, lefts, lefts + 10, lefts + 10], dim=1)
    return RankedDetections(scores, classes, boxes)


def problem(expected: RankedDetections, given: RankedDetections) -> str:
    return compare_detections(expected, given, PETS, Tolerance()).problem


def test_equal_detections_are_equal_and_the_largest_differences_are_returned():
    expected = ranked((0.9, 0, 5.0), (0.4, 1, 50.0))
    given = ranked((0.90005, 0, 5.0), (0.4, 1, 50.0005))
    found = compare_detections(expected, given, PETS, Tolerance())
    assert (found.problem, found.compared) == ("", 2)
    assert found.box_px == pytest.approx(5e-4, rel=0.01)
    assert found.score == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize("count", [2, 7])
def test_the_order_of_equal_scores_means_nothing(count: int):
    rows = [(0.5, 0, 20.0 * number) for number in range(count)]
    assert problem(ranked(*rows), ranked(*reversed(rows))) == ""


def test_each_detection_needs_a_counterpart_of_its_own():
    """Two detections of one image are not one of the other twice."""
    twice = ranked((0.9, 0, 5.0), (0.9, 0, 5.0))
    assert problem(twice, ranked((0.9, 0, 5.0), (0.9, 0, 80.0))) != ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ranked((0.9, 0, 5.0), (0.4, 1, 50.02)), "'dog' of score 0.400 at .* is 20 tolerances"),
        (ranked((0.9, 0, 5.0), (0.41, 1, 50.0)), "'dog' of score 0.400 .* is 100 tolerances off"),
        (ranked((0.9, 0, 5.0), (0.4, 0, 50.0)), "'dog' of score 0.400 at .* is missing"),
        (ranked((0.9, 0, 5.0)), "'dog'.* is missing"),
        (ranked((0.9, 0, 5.0), (0.4, 1, 50.0), (0.3, 0, 9.0)), "'cat' of score 0.300 .* not the"),
        (ranked((0.9, 0, 5.0), (0.4, 1, float("nan"))), "'dog' of score 0.400 at .* is missing"),
    ],
)
def test_a_difference_is_described(given: RankedDetections, message: str):
    """What is off, missing or added is named with its class, score and box."""
    found = problem(ranked((0.9, 0, 5.0), (0.4, 1, 50.0)), given)
    assert re.search(message, found), found


def test_detections_of_low_score_are_compared_only_among_the_best():
    """A model that finds nothing is still compared, by its ten best detections."""
    low = [(0.04 - number / 1000, 0, 10.0 * number) for number in range(20)]
    moved = [
        (score, name, left + (50 if number >= 10 else 0))
        for number, (score, name, left) in enumerate(low)
    ]
    assert problem(ranked(*low), ranked(*moved)) == ""
    worse = [(score, name, left + 50) for score, name, left in low]
    assert problem(ranked(*low), ranked(*worse)) != ""


def test_masks_are_compared_by_probability():
    expected = ranked((0.9, 0, 5.0))
    given = RankedDetections(
        *(getattr(expected, each) for each in ("scores", "class_indices", "xyxy_px")),
        torch.full((1, 2, 2), 0.52),
    )
    expected = RankedDetections(
        expected.scores, expected.class_indices, expected.xyxy_px, torch.full((1, 2, 2), 0.5)
    )
    assert problem(expected, given) == "a mask differs by 0.02 in probability"
