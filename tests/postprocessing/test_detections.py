"""Answers: every slot, best first, in pixels of the original image."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.losses.classification import Softmax
from setmatch.postprocessing.detections import detections
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions

THREE = Categories((1, 2, 7), ("cat", "dog", None))
SIZES_PX = [(480, 640), (100, 50)]


def predictions(seed: int = 0, queries: int = 9) -> Predictions:
    random = torch.Generator().manual_seed(seed)
    return Predictions(
        torch.randn(2, 2, queries, 4, generator=random),
        torch.rand(2, 2, queries, 4, generator=random),
    )


def test_boxes_are_in_pixels_of_the_original_image():
    """A box in fractions comes back as corners, each axis in its image's own pixels."""
    logits = torch.zeros(1, 2, 1, 4)
    cxcywh = torch.tensor([0.5, 0.25, 0.2, 0.5]).expand(1, 2, 1, 4)
    first, second = detections(Predictions(logits, cxcywh), Softmax(), THREE, SIZES_PX)
    torch.testing.assert_close(first.xyxy_px, torch.tensor([[256.0, 0.0, 384.0, 240.0]]))
    torch.testing.assert_close(second.xyxy_px, torch.tensor([[20.0, 0.0, 30.0, 50.0]]))
    assert (first.size_px, second.size_px) == (SIZES_PX[0], SIZES_PX[1])


def test_every_slot_answers_with_its_best_real_class():
    """No slot is dropped, and "no object" is never the answer, however likely it is."""
    logits = torch.tensor([[1.0, 0.0, 2.0, 50.0], [5.0, 1.0, 0.0, 0.0]]).expand(1, 2, 2, 4)
    found = detections(Predictions(logits, torch.rand(1, 2, 2, 4)), Softmax(), THREE, SIZES_PX)
    assert [each.classes.tolist() for each in found] == [[0, 2], [0, 2]]
    torch.testing.assert_close(found[0].scores, logits[0, 0].softmax(-1)[[1, 0], [0, 2]])


def test_the_last_layer_is_the_answer():
    """Earlier decoder layers change nothing."""
    whole = predictions()
    last = Predictions(whole.logits[-1:], whole.cxcywh[-1:])
    for a, b in zip(
        detections(whole, Softmax(), THREE, SIZES_PX),
        detections(last, Softmax(), THREE, SIZES_PX),
        strict=True,
    ):
        assert torch.equal(a.xyxy_px, b.xyxy_px)
        assert torch.equal(a.scores, b.scores)


@given(st.integers(0, 10_000), st.permutations(range(9)))
def test_the_order_of_the_queries_does_not_matter(seed: int, order: list[int]):
    """Best first: shuffled queries give the same detections in the same order."""
    whole = predictions(seed)
    shuffled = Predictions(whole.logits[:, :, order], whole.cxcywh[:, :, order])
    for a, b in zip(
        detections(whole, Softmax(), THREE, SIZES_PX),
        detections(shuffled, Softmax(), THREE, SIZES_PX),
        strict=True,
    ):
        assert (a.scores.diff() <= 0).all()
        torch.testing.assert_close(a.scores, b.scores)
        torch.testing.assert_close(a.xyxy_px, b.xyxy_px)
        assert torch.equal(a.classes, b.classes)


def test_equal_scores_keep_the_order_of_the_queries():
    """The answer is the same on every run, ties included."""
    cxcywh = torch.rand(1, 2, 20, 4)
    found = detections(Predictions(torch.zeros(1, 2, 20, 4), cxcywh), Softmax(), THREE, SIZES_PX)
    width = torch.tensor(640.0)
    centers = found[0].xyxy_px[:, 0::2].mean(1) / width
    torch.testing.assert_close(centers, cxcywh[0, 0, :, 0])


def test_scores_are_float32_under_mixed_precision():
    """bfloat16 logits are read in float32: 1/256 steps would tie the best answers."""
    half = predictions()
    half = Predictions(half.logits.bfloat16(), half.cxcywh.bfloat16())
    found = detections(half, Softmax(), THREE, SIZES_PX)[0]
    assert found.scores.dtype == found.xyxy_px.dtype == torch.float32
    expected = half.logits[-1, 0].float().softmax(-1)[:, :-1].amax(-1).sort(descending=True)[0]
    assert torch.equal(found.scores, expected)
