"""Classification losses, compared with their formulas."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.losses.classification import (
    Focal,
    IoUAware,
    MatchabilityAware,
    MatchedQueries,
    Softmax,
    Varifocal,
)
from setmatch.losses.normalizer import LossNormalizer


@pytest.mark.parametrize(
    "class_loss",
    [Focal(), Varifocal(), MatchabilityAware(), IoUAware()],
    ids=["focal", "varifocal", "matchability", "iou_aware"],
)
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_a_loss_equals_its_formula_for_every_logit(class_loss: Focal, seed: int):
    """Focal: arXiv 1708.02002, equation 5; varifocal: 2008.13367, equation 2; MAL: 2412.04234.

    IoU-aware: arXiv 2406.03459, section 3.2.
    """
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, 2, 4, 3, dtype=torch.float64)
    matches = MatchedQueries(
        layer=torch.tensor([0, 0, 1]),
        image=torch.tensor([0, 1, 1]),
        query=torch.tensor([3, 0, 2]),
        class_index=torch.tensor([1, 2, 0]),
        iou=torch.rand(3, dtype=torch.float64),
    )
    where = zip(matches.layer, matches.image, matches.query, matches.class_index, strict=True)
    targets = dict(zip([tuple(map(int, place)) for place in where], matches.iou.tolist()))
    expected = torch.zeros(2, dtype=torch.float64)
    for place in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        p, q = logits[tuple(place)].sigmoid(), targets.get(tuple(place))
        if isinstance(class_loss, IoUAware):
            t = p**2 if q is None else max(p**0.25 * q**0.75, torch.tensor(0.01))
            present, absent = (0, t) if q is None else (t, 1 - t)
            expected[place[0]] -= present * p.log() + absent * (1 - p).log()
        elif isinstance(class_loss, MatchabilityAware):
            q = 0 if q is None else q**1.5
            absent = p**1.5 if q == 0 else 1 - q
            expected[place[0]] -= q * p.log() + absent * (1 - p).log()
        elif q is None:
            expected[place[0]] -= 0.75 * p**2 * (1 - p).log()
        elif isinstance(class_loss, Varifocal):
            expected[place[0]] -= q * (q * p.log() + (1 - q) * (1 - p).log())
        else:
            expected[place[0]] -= 0.25 * (1 - p) ** 2 * p.log()
    normalizer = LossNormalizer(torch.tensor([5, 1, 1, 1], dtype=torch.float64))
    losses = class_loss.loss(logits, matches, normalizer)
    assert torch.allclose(losses, expected / 5, rtol=1e-9)


def test_varifocal_targets_and_weights_have_no_gradient():
    logits = torch.tensor([[[[0.3]]]], requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    matches = MatchedQueries(none, none, none, none, torch.zeros(0))
    Varifocal().loss(logits, matches, LossNormalizer(torch.ones(4))).sum().backward()
    p = torch.tensor(0.3).sigmoid()
    assert torch.allclose(logits.grad.flatten(), 0.75 * p**2 * p)


@pytest.mark.parametrize(
    ("logit", "iou", "loss"),
    # -(q^1.5 ln p + (1 - q^1.5) ln(1 - p)) of a match; -p^1.5 ln(1 - p) without a target.
    [(0.0, 0.25, 0.693147), (1.0, 0.64, 0.801262), (-2.0, 1.0, 2.126928), (1.0, None, 0.820880)],
)
def test_matchability_by_hand(logit: float, iou: float | None, loss: float):
    index = torch.zeros(0 if iou is None else 1, dtype=torch.int64)
    matches = MatchedQueries(index, index, index, index, torch.full((len(index),), iou or 0.0))
    value = MatchabilityAware().loss(
        torch.tensor([[[[logit]]]]), matches, LossNormalizer(torch.ones(4))
    )
    assert value.item() == pytest.approx(loss, abs=2e-6)


@pytest.mark.parametrize("iou", [0.0, 0.1, 0.5, 1.0])
def test_matchability_learns_poor_matches_as_well_as_good_ones(iou: float):
    """The gradient is p - q^1.5, where varifocal's is q (p - q): hardly any for a poor match."""
    logits = torch.tensor([[[[0.4]]]], dtype=torch.float64, requires_grad=True)
    index = torch.zeros(1, dtype=torch.int64)
    matches = MatchedQueries(index, index, index, index, torch.tensor([iou], dtype=torch.float64))
    normalizer = LossNormalizer(torch.ones(4, dtype=torch.float64))
    MatchabilityAware().loss(logits, matches, normalizer).sum().backward()
    p = torch.tensor(0.4, dtype=torch.float64).sigmoid()
    assert torch.allclose(logits.grad.flatten(), p - iou**1.5)


def test_matchability_weights_of_other_logits_have_no_gradient():
    logits = torch.tensor([[[[0.3]]]], requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    matches = MatchedQueries(none, none, none, none, torch.zeros(0))
    MatchabilityAware().loss(logits, matches, LossNormalizer(torch.ones(4))).sum().backward()
    p = torch.tensor(0.3).sigmoid()
    assert torch.allclose(logits.grad.flatten(), p**1.5 * p)


def test_iou_aware_targets_have_no_gradient_and_are_never_zero():
    logits = torch.tensor([[[[0.3, -2.0]]]], requires_grad=True)
    one = torch.zeros(1, dtype=torch.int64)
    matches = MatchedQueries(one, one, one, one, torch.zeros(1))
    IoUAware().loss(logits, matches, LossNormalizer(torch.ones(4))).sum().backward()
    p = logits.detach().flatten().sigmoid()
    assert logits.grad.flatten()[0].item() == pytest.approx(p[0].item() - 0.01)
    free = torch.tensor(-2.0, requires_grad=True)  # without a target, the weight has one
    (-(free.sigmoid() ** 2) * torch.nn.functional.logsigmoid(-free)).backward()
    assert logits.grad.flatten()[1].item() == pytest.approx(free.grad.item())


def test_only_softmax_reads_the_last_logit_as_no_object():
    logits = torch.tensor([[[[-9.0, -8.0], [1.0, -1.0], [-1.0, 1.0]]]])
    assert Softmax().predicts_object(logits).tolist() == [[[False, True, False]]]
    assert Focal().predicts_object(logits).tolist() == [[[False, True, True]]]
    assert Varifocal().predicts_object(logits).tolist() == [[[False, True, True]]]


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_the_focal_cost_is_the_loss_with_the_class_minus_the_loss_without(seed: int):
    torch.manual_seed(seed)
    logits, class_indices = torch.randn(1, 1, 1, 3), torch.randint(0, 3, (1, 1))
    focal = Focal()
    p = logits[0, 0, 0, class_indices[0, 0]].sigmoid()
    present = -0.25 * (1 - p) ** 2 * p.log()
    absent = -0.75 * p**2 * (1 - p).log()
    assert torch.allclose(
        focal.cost(logits, class_indices)[0, 0, 0, 0], present - absent, atol=1e-6
    )
    assert torch.equal(Varifocal().cost(logits, class_indices), focal.cost(logits, class_indices))


def test_focal_decodes_the_best_pairs_of_query_and_class():
    """A query may have two classes. The best score comes first."""
    logits = torch.tensor([[[3.0, 2.0], [-1.0, 1.0]]])
    scores = Focal().decode(logits)
    assert scores.class_index.tolist() == [[0, 1]]
    assert scores.query.tolist() == [[0, 0]]
    assert torch.allclose(scores.score, torch.tensor([[3.0, 2.0]]).sigmoid())


def test_tied_scores_are_each_decoded_once():
    """There are as many pairs as queries, and none occurs twice."""
    scores = Focal().decode(torch.zeros(2, 5, 3))
    pairs = scores.query * 3 + scores.class_index
    assert pairs.shape == (2, 5)
    assert all(len(image.unique()) == 5 for image in pairs)
