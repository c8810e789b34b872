"""Predictions become the same detections without torch as with it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.inference.arrays.decode import SCORES, decode
from setmatch.losses.classification import CLASSIFICATION_LOSSES
from setmatch.postprocessing.detections import detections
from setmatch.structures.detection_arrays import DetectionArrays, coco_rows
from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions

SIZE_PX = (48, 64)


def both(loss: str, queries: int, classes: int, seed: int) -> tuple[DetectionArrays, Detections]:
    """The detections of one image, by NumPy and by torch."""
    random = np.random.default_rng(seed)
    class_loss = CLASSIFICATION_LOSSES[loss]()
    shape = queries, class_loss.num_logits(classes)
    # All apart from each other: rounding orders scores that are nearly alike.
    apart = np.linspace(-1.8, 1.7, math.prod(shape), dtype=np.float32) ** 3
    logits = random.permutation(apart).reshape(shape)
    cxcywh = random.uniform(size=(queries, 4)).astype(np.float32)
    names = Categories(tuple(range(3, 3 + classes)), (None, *"abcdefgh")[:classes])
    predictions = Predictions(
        torch.from_numpy(logits)[None, None], torch.from_numpy(cxcywh)[None, None]
    )
    (expected,) = detections(predictions, class_loss, names, [SIZE_PX])
    return decode(logits, cxcywh, loss, names, SIZE_PX), expected


def test_every_classification_loss_can_be_decoded():
    assert SCORES.keys() == CLASSIFICATION_LOSSES.keys()


@pytest.mark.parametrize("loss", CLASSIFICATION_LOSSES)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 999))
def test_detections_are_those_of_the_loss(loss: str, queries: int, classes: int, seed: int):
    """Scores, classes, boxes and order, for any number of queries and classes."""
    given, expected = both(loss, queries, classes, seed)
    assert np.allclose(given.scores, expected.scores.numpy(), rtol=0, atol=1e-6)
    assert given.classes.tolist() == expected.classes.tolist()
    assert np.allclose(given.xyxy_px, expected.xyxy_px.numpy(), rtol=0, atol=1e-4)
    assert given.xyxy_px.dtype == given.scores.dtype == np.float32


@given(st.integers(0, 99), st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 1))
def test_thresholds_choose_the_same(seed: int, of_classes: list[float], one: float):
    """One for all, or one for each class."""
    given, expected = both("focal", 20, 3, seed)
    # The very same scores, which arithmetic may round apart.
    given = DetectionArrays(
        *(each.numpy() for each in (expected.xyxy_px, expected.scores, expected.classes)),
        given.categories,
    )
    for ours, theirs in ((one, one), (tuple(of_classes), torch.tensor(of_classes))):
        assert coco_rows(given.above(ours)) == expected.above(theirs).to_dicts()
