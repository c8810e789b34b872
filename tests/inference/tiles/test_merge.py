"""One object seen in several views is one detection; two objects in one view stay two."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from setmatch.inference.tiles.merge import cut_by_border, merged

CAT, DOG = 0, 1
Row = tuple[
    tuple[float, float, float, float], float, int, int, bool
]  # box, score, class, view, cut


def kept(*rows: Row) -> list[int]:
    boxes, scores, classes, views, cut = zip(*rows, strict=True)
    return merged(
        torch.tensor(boxes),
        torch.tensor(scores),
        torch.tensor(classes),
        torch.tensor(views),
        torch.tensor(cut),
    ).tolist()


WHOLE = (0.0, 0.0, 100.0, 100.0)
LEFT, RIGHT = (0.0, 0.0, 60.0, 100.0), (50.0, 0.0, 100.0, 100.0)
CASES = {
    "the same box in two views": ([(WHOLE, 0.8, CAT, 0, False), (WHOLE, 0.9, CAT, 1, False)], [1]),
    "two boxes in one view": ([(WHOLE, 0.9, CAT, 1, False), (WHOLE, 0.8, CAT, 1, False)], [0, 1]),
    "two classes": ([(WHOLE, 0.9, CAT, 0, False), (WHOLE, 0.8, DOG, 1, False)], [0, 1]),
    "a part gives way, whatever its score": (
        [(LEFT, 0.99, CAT, 1, True), (WHOLE, 0.3, CAT, 0, False)],
        [1],
    ),
    "parts of an object that nothing sees whole": (
        [(LEFT, 0.9, CAT, 1, True), (RIGHT, 0.8, CAT, 2, True)],
        [0, 1],
    ),
    "a part of nothing that is sure": (
        [(LEFT, 0.9, CAT, 1, True), (WHOLE, 0.01, CAT, 0, False)],
        [0],
    ),
    "a small object inside a large one": (
        [(WHOLE, 0.9, CAT, 0, False), ((10.0, 10.0, 30.0, 30.0), 0.8, CAT, 1, False)],
        [0, 1],
    ),
    "an imprecise box of a small object": (
        [
            ((10.0, 10.0, 22.0, 22.0), 0.9, CAT, 1, False),
            ((12.0, 8.0, 27.0, 20.0), 0.5, CAT, 0, False),
        ],
        [0],
    ),
    "a chain": (  # the second is removed, so that it removes nothing
        [
            ((0.0, 0.0, 10.0, 10.0), 0.9, CAT, 0, False),
            ((4.0, 0.0, 14.0, 10.0), 0.8, CAT, 1, False),
            ((8.0, 0.0, 18.0, 10.0), 0.7, CAT, 2, False),
        ],
        [0, 2],
    ),
    "neighbors": (
        [
            ((0.0, 0.0, 10.0, 10.0), 0.9, CAT, 0, False),
            ((9.0, 0.0, 19.0, 10.0), 0.9, CAT, 1, False),
        ],
        [0, 1],
    ),
    "boxes without area": ([((5.0, 5.0, 5.0, 5.0), 0.9, CAT, 0, False)] * 2, [0, 1]),
    "none": ([((5.0, 5.0, 9.0, 9.0), 0.9, CAT, 0, False)], [0]),
}


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=CASES)
def test_one_object_is_one_detection(rows: list[Row], expected: list[int]):
    assert kept(*rows) == expected


def greedy(boxes: Tensor, scores: Tensor, classes: Tensor, views: Tensor, cut: Tensor) -> list[int]:
    """The rule again, one detection after the other."""
    chosen: list[int] = []
    ranks = torch.where(cut, 0.1 * scores, scores).argsort(descending=True, stable=True)
    for i in ranks.tolist():
        for j in chosen:
            low, high = (
                torch.maximum(boxes[i, :2], boxes[j, :2]),
                torch.minimum(boxes[i, 2:], boxes[j, 2:]),
            )
            shared = (high - low).clamp(min=0).prod()
            areas = sorted(float((box[2:] - box[:2]).prod()) for box in (boxes[i], boxes[j]))
            alike = areas[1] <= 3 * areas[0] or bool(cut[i] or cut[j])
            others = classes[i] == classes[j] and views[i] != views[j]
            if others and alike and areas[0] > 0 and shared >= 0.5 * areas[0]:
                break
        else:
            chosen.append(i)
    return sorted(chosen)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_result_is_that_of_one_after_the_other(seed: int, count: int):
    torch.manual_seed(seed)
    low = torch.randint(0, 40, (count, 2)).float()
    boxes = torch.cat([low, low + torch.randint(0, 30, (count, 2))], dim=1)
    scores, cut = torch.rand(count), torch.rand(count) < 0.3
    classes, views = torch.randint(0, 2, (count,)), torch.randint(0, 4, (count,))
    found = merged(boxes, scores, classes, views, cut)
    assert sorted(found.tolist()) == greedy(boxes, scores, classes, views, cut)
    assert scores[found].tolist() == sorted(scores[found].tolist(), reverse=True)


def test_only_borders_inside_of_the_image_cut():
    size_px = 300, 200
    boxes = torch.tensor(
        [
            [0.0, 60, 50, 100],
            [10, 51, 50, 100],
            [10, 60, 99, 100],
            [10, 60, 50, 149],
            [10, 60, 50, 90],
        ]
    )
    view_px = torch.tensor([[0, 50, 100, 150]]).expand(len(boxes), -1)
    assert cut_by_border(boxes, view_px, size_px).tolist() == [False, True, True, True, False]
    whole_px = torch.tensor([[0, 0, 200, 300]]).expand(len(boxes), -1)
    assert not cut_by_border(boxes, whole_px, size_px).any()
