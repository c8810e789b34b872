"""Detections go to other libraries and come back without importing one of them."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.structures.detections import Detections
from setmatch.structures.metadata import Categories

HOLES = Categories((3, 7, 90), ("cat", None, "dog"))
SIZE_PX = (480, 640)


def made(count: int, seed: int = 0) -> Detections:
    random = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=random) * 300
    xyxy_px = torch.cat([low, low + torch.rand(count, 2, generator=random) * 200], dim=1)
    scores = torch.rand(count, generator=random).sort(descending=True).values
    classes = torch.randint(3, (count,), generator=random)
    return Detections(xyxy_px, scores, classes, HOLES, SIZE_PX)


def same(a: Detections, b: Detections) -> None:
    torch.testing.assert_close(a.xyxy_px, b.xyxy_px)
    torch.testing.assert_close(a.scores, b.scores)
    assert torch.equal(a.classes, b.classes)
    assert (a.categories, a.size_px) == (b.categories, b.size_px)


counts = st.integers(0, 8)
seeds = st.integers(0, 1000)


@given(counts, seeds)
def test_dicts_come_back_as_they_went(count: int, seed: int):
    """to_dicts and from_dicts are inverse, for any number of detections, none included."""
    found = made(count, seed)
    same(found, Detections.from_dicts(found.to_dicts(), HOLES, SIZE_PX))


@given(counts, seeds)
def test_torchvision_comes_back_as_it_went(count: int, seed: int):
    """to_torchvision and from_torchvision are inverse; labels are ids of the annotation file."""
    found = made(count, seed)
    output = found.to_torchvision()
    assert set(output["labels"].tolist()) <= set(HOLES.ids)
    same(found, Detections.from_torchvision(output, HOLES, SIZE_PX))


@given(counts, seeds)
def test_supervision_comes_back_as_it_went(count: int, seed: int):
    """An object with supervision's attributes is read without the library."""
    found = made(count, seed)
    duck = SimpleNamespace(**found.to_supervision())
    assert len(duck.data["class_name"]) == count
    same(found, Detections.from_supervision(duck, HOLES, SIZE_PX))


def test_dicts_are_coco_results_with_names():
    """Boxes are x, y, width, height; a class hole answers with its id."""
    xyxy_px = torch.tensor([[10.0, 20.0, 40.0, 60.0]] * 2)
    found = Detections(xyxy_px, torch.tensor([0.75, 0.5]), torch.tensor([2, 1]), HOLES, SIZE_PX)
    first, second = found.to_dicts()
    assert first == {
        "bbox": [10.0, 20.0, 30.0, 40.0],
        "score": 0.75,
        "category_id": 90,
        "category_name": "dog",
    }
    assert (second["category_id"], second["category_name"]) == (7, "class 7")


def test_what_comes_in_is_put_best_first():
    """Other libraries keep any order; Detections are best first."""
    dicts = made(5).to_dicts()
    same(made(5), Detections.from_dicts(dicts[::-1], HOLES, SIZE_PX))


def test_an_unknown_class_is_refused():
    """A category id that the classes do not hold never becomes another class in silence."""
    with pytest.raises(KeyError):
        Detections.from_dicts(
            [{"bbox": [0, 0, 1, 1], "score": 1.0, "category_id": 4}], HOLES, SIZE_PX
        )
