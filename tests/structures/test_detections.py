"""Detections are converted to formats of other libraries and back, without importing them."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories

HOLES = Categories((3, 7, 90), ("cat", None, "dog"))
SIZE_PX = (480, 640)


def random_detections(count: int, seed: int = 0) -> Detections:
    random = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=random) * 300
    xyxy_px = torch.cat([low, low + torch.rand(count, 2, generator=random) * 200], dim=1)
    scores = torch.rand(count, generator=random).sort(descending=True).values
    classes = torch.randint(3, (count,), generator=random)
    return Detections(xyxy_px, scores, classes, HOLES, SIZE_PX)


def assert_equal(a: Detections, b: Detections) -> None:
    torch.testing.assert_close(a.xyxy_px, b.xyxy_px)
    torch.testing.assert_close(a.scores, b.scores)
    assert torch.equal(a.classes, b.classes)
    assert (a.categories, a.size_px) == (b.categories, b.size_px)


counts = st.integers(0, 8)
seeds = st.integers(0, 1000)


@given(counts, seeds)
def test_to_dicts_and_from_dicts_are_inverse(count: int, seed: int):
    detections = random_detections(count, seed)
    assert_equal(detections, Detections.from_dicts(detections.to_dicts(), HOLES, SIZE_PX))


@given(counts, seeds)
def test_to_torchvision_and_from_torchvision_are_inverse(count: int, seed: int):
    """Labels are category ids."""
    detections = random_detections(count, seed)
    output = detections.to_torchvision()
    assert set(output["labels"].tolist()) <= set(HOLES.ids)
    assert_equal(detections, Detections.from_torchvision(output, HOLES, SIZE_PX))


@given(counts, seeds)
def test_to_supervision_and_from_supervision_are_inverse(count: int, seed: int):
    """Any object with supervision's attributes is read."""
    detections = random_detections(count, seed)
    read = SimpleNamespace(**detections.to_supervision())
    assert len(read.data["class_name"]) == count
    assert_equal(detections, Detections.from_supervision(read, HOLES, SIZE_PX))


def test_dicts_are_coco_results_with_class_names():
    """An unused class index is named by its id."""
    xyxy_px = torch.tensor([[10.0, 20.0, 40.0, 60.0]] * 2)
    scores, classes = torch.tensor([0.75, 0.5]), torch.tensor([2, 1])
    detections = Detections(xyxy_px, scores, classes, HOLES, SIZE_PX)
    first, second = detections.to_dicts()
    assert first == {
        "bbox": [10.0, 20.0, 30.0, 40.0],
        "score": 0.75,
        "category_id": 90,
        "category_name": "dog",
    }
    assert (second["category_id"], second["category_name"]) == (7, "class 7")


def test_detections_in_any_order_are_sorted_by_score():
    dicts = random_detections(5).to_dicts()
    assert_equal(random_detections(5), Detections.from_dicts(dicts[::-1], HOLES, SIZE_PX))


def test_an_unknown_category_id_is_refused():
    with pytest.raises(KeyError):
        Detections.from_dicts(
            [{"bbox": [0, 0, 1, 1], "score": 1.0, "category_id": 4}], HOLES, SIZE_PX
        )
