"""Detections are a sequence, and are converted to formats of other libraries and back."""

import dataclasses
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.errors import ConfigError, DataError, ExtraMissingError
from setmatch.structures.detections import Detection, Detections
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks

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
    """Names go along as `class_name`."""
    import supervision

    detections = random_detections(count, seed)
    read = detections.to_supervision()
    assert isinstance(read, supervision.Detections)
    assert len(read) == len(read.data["class_name"]) == count
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
    with pytest.raises(DataError, match=r"category id 4: no such category; ids are \(3, 7, 90"):
        Detections.from_dicts(
            [{"bbox": [0, 0, 1, 1], "score": 1.0, "category_id": 4}], HOLES, SIZE_PX
        )


def with_masks(count: int = 3) -> Detections:
    """The mask of detection i is true in row i alone."""
    found = random_detections(count)
    masks = torch.eye(8, dtype=torch.bool)[:count, :, None].expand(count, 8, 5)
    return dataclasses.replace(found, masks=PackedMasks.pack(masks), size_px=(8, 5))


def test_iterating_gives_a_detection_for_each():
    found = with_masks()
    assert len(list(found)) == 3
    for at, each in enumerate(found):
        assert isinstance(each, Detection)
        assert each.name == HOLES.name(each.class_index)
        assert each.class_index == found.classes[at]
        assert each.score == found.scores[at].item()
        assert each.xyxy_px == tuple(found.xyxy_px[at].tolist())
        assert each.mask.any(1).nonzero().flatten().tolist() == [at]
    assert all(each.mask is None for each in random_detections(3))
    assert list(random_detections(0)) == []


@given(counts, seeds, st.integers(-10, 10))
def test_a_number_in_brackets_gives_one_detection(count: int, seed: int, at: int):
    """As in a list, from either end."""
    found = random_detections(count, seed)
    if -count <= at < count:
        assert found[at] == list(found)[at]
    else:
        with pytest.raises(IndexError):
            found[at]


@given(counts, seeds, st.slices(8))
def test_a_slice_a_list_and_a_tensor_give_the_chosen_detections(count: int, seed: int, part: slice):
    found = random_detections(count, seed)
    expected = list(found)[part]
    numbers = list(range(count))[part]
    mask = torch.tensor([at in numbers for at in range(count)], dtype=torch.bool)
    assert list(found[part]) == expected
    assert list(found[numbers]) == expected
    assert sorted(found[mask], key=repr) == sorted(expected, key=repr)
    assert list(found[torch.tensor(numbers, dtype=torch.int64)]) == expected


def test_chosen_detections_keep_their_masks():
    found = with_masks()
    assert torch.equal(found[[2, 0]].masks.unpack(), found.masks.unpack()[[2, 0]])
    assert torch.equal(found[1].mask, found.masks.unpack()[1])


@given(counts, seeds, st.sampled_from(["cat", "dog", "class 7", 0, 2]), st.floats(0, 1))
def test_filter_keeps_classes_and_scores(count: int, seed: int, wanted, score: float):
    """By name or by class index; a score must be exceeded, as a threshold must."""
    found = random_detections(count, seed)
    index = wanted if isinstance(wanted, int) else ["cat", "class 7", "dog"].index(wanted)
    expected = [each for each in found if each.class_index == index and each.score > score]
    assert list(found.filter(wanted, score)) == expected
    assert list(found.filter([wanted], score)) == expected
    assert list(found.filter({wanted, "dog"})) == [
        each for each in found if each.class_index in (index, 2)
    ]
    assert list(found.filter(score=score)) == list(found.above(score))


@pytest.mark.parametrize("wanted", ["catt", "", 3, -1, ["cat", "horse"]])
def test_an_unknown_class_is_refused(wanted):
    with pytest.raises(ConfigError, match="class"):
        random_detections(3).filter(wanted)


def test_two_classes_of_one_name_are_both_kept():
    twice = dataclasses.replace(random_detections(8), categories=Categories((1, 2, 3), ("a",) * 3))
    assert len(twice.filter("a")) == 8


@pytest.mark.parametrize("count", [0, 1, 3, 300])
def test_the_text_of_detections_is_one_short_line(count: int):
    """Even with names that have line breaks or megabytes."""
    names = Categories((1, 2, 3), ("a\nb", "x" * 10**6, None))
    text = repr(dataclasses.replace(random_detections(count), categories=names))
    assert text.startswith(f"Detections({count} in 640x480 px")
    assert "\n" not in text
    assert len(text) < 400


def test_a_table_has_a_row_for_each_detection():
    found = random_detections(4)
    table = found.to_pandas()
    assert table["category"].tolist() == [each.name for each in found]
    assert table["category_id"].tolist() == [HOLES.ids[each.class_index] for each in found]
    assert table["score"].tolist() == [each.score for each in found]
    sides = table[["x0_px", "y0_px", "x1_px", "y1_px"]]
    assert [tuple(row) for row in sides.to_numpy().tolist()] == [each.xyxy_px for each in found]


def test_a_table_has_the_same_types_with_and_without_detections():
    """So that tables of several images can be joined, whichever of them are empty."""
    empty, full = random_detections(0).to_pandas(), random_detections(3).to_pandas()
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict()


def test_masks_go_to_supervision():
    found = with_masks()
    assert (found.to_supervision().mask == found.masks.unpack().numpy()).all()
    assert random_detections(2).to_supervision().mask is None


@pytest.mark.parametrize(("library", "convert"), [("pandas", "to_pandas"), ("supervision", None)])
def test_the_error_without_a_library_names_the_extra(monkeypatch, library, convert):
    monkeypatch.setitem(sys.modules, library, None)  # importing it raises ImportError
    with pytest.raises(ExtraMissingError, match=rf"setmatch\[{library}\]"):
        getattr(random_detections(1), convert or f"to_{library}")()


@pytest.mark.parametrize("index", [-1, 3, 10**9])
def test_a_class_index_of_supervision_that_is_none_of_the_classes_is_refused(index: int):
    boxes = random_detections(1).to_supervision()
    boxes.class_id[:] = index
    with pytest.raises(DataError, match=f"class index {index}, .*class indices are 0 to 2"):
        Detections.from_supervision(boxes, HOLES, SIZE_PX)
    boxes.class_id = None
    with pytest.raises(DataError, match="no class_id"):
        Detections.from_supervision(boxes, HOLES, SIZE_PX)
