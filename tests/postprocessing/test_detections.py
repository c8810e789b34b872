"""Decoding of detections: all queries, by score, in pixels of the original image."""

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
    logits = torch.zeros(1, 2, 1, 4)
    cxcywh = torch.tensor([0.5, 0.25, 0.2, 0.5]).expand(1, 2, 1, 4)
    first, second = detections(Predictions(logits, cxcywh), Softmax(), THREE, SIZES_PX)
    torch.testing.assert_close(first.xyxy_px, torch.tensor([[256.0, 0.0, 384.0, 240.0]]))
    torch.testing.assert_close(second.xyxy_px, torch.tensor([[20.0, 0.0, 30.0, 50.0]]))
    assert (first.size_px, second.size_px) == (SIZES_PX[0], SIZES_PX[1])


def test_every_query_is_decoded_as_its_best_class():
    """No query is dropped, and "no object" is never returned, however probable it is."""
    logits = torch.tensor([[1.0, 0.0, 2.0, 50.0], [5.0, 1.0, 0.0, 0.0]]).expand(1, 2, 2, 4)
    decoded = detections(Predictions(logits, torch.rand(1, 2, 2, 4)), Softmax(), THREE, SIZES_PX)
    assert [each.classes.tolist() for each in decoded] == [[0, 2], [0, 2]]
    torch.testing.assert_close(decoded[0].scores, logits[0, 0].softmax(-1)[[1, 0], [0, 2]])


def test_only_the_last_decoder_layer_counts():
    all_layers = predictions()
    last = Predictions(all_layers.logits[-1:], all_layers.cxcywh[-1:])
    for a, b in zip(
        detections(all_layers, Softmax(), THREE, SIZES_PX),
        detections(last, Softmax(), THREE, SIZES_PX),
        strict=True,
    ):
        assert torch.equal(a.xyxy_px, b.xyxy_px)
        assert torch.equal(a.scores, b.scores)


@given(st.integers(0, 10_000), st.permutations(range(9)))
def test_the_order_of_the_queries_does_not_matter(seed: int, order: list[int]):
    all_layers = predictions(seed)
    shuffled = Predictions(all_layers.logits[:, :, order], all_layers.cxcywh[:, :, order])
    for a, b in zip(
        detections(all_layers, Softmax(), THREE, SIZES_PX),
        detections(shuffled, Softmax(), THREE, SIZES_PX),
        strict=True,
    ):
        assert (a.scores.diff() <= 0).all()
        torch.testing.assert_close(a.scores, b.scores)
        torch.testing.assert_close(a.xyxy_px, b.xyxy_px)
        assert torch.equal(a.classes, b.classes)


def test_equal_scores_keep_the_order_of_the_queries():
    cxcywh = torch.rand(1, 2, 20, 4)
    decoded = detections(Predictions(torch.zeros(1, 2, 20, 4), cxcywh), Softmax(), THREE, SIZES_PX)
    width = torch.tensor(640.0)
    centers = decoded[0].xyxy_px[:, 0::2].mean(1) / width
    torch.testing.assert_close(centers, cxcywh[0, 0, :, 0])


def test_scores_are_float32_under_mixed_precision():
    """In bfloat16, steps of 1/256 would tie the best scores."""
    half = predictions()
    half = Predictions(half.logits.bfloat16(), half.cxcywh.bfloat16())
    decoded = detections(half, Softmax(), THREE, SIZES_PX)[0]
    assert decoded.scores.dtype == decoded.xyxy_px.dtype == torch.float32
    expected = half.logits[-1, 0].float().softmax(-1)[:, :-1].amax(-1).sort(descending=True)[0]
    assert torch.equal(decoded.scores, expected)
