"""Ways to read a logit, each against its formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.losses.classification import Focal, LossCounts, MatchedQueries, Softmax, Varifocal


@pytest.mark.parametrize("scoring", [Focal(), Varifocal()], ids=["focal", "varifocal"])
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_a_loss_is_its_formula_logit_by_logit(class_loss: Focal, seed: int):
    """Focal: arXiv 1708.02002, equation 5; varifocal: arXiv 2008.13367, equation 2."""
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
    owed = dict(zip([tuple(map(int, place)) for place in where], matches.iou.tolist()))
    varies = isinstance(class_loss, Varifocal)
    expected = torch.zeros(2, dtype=torch.float64)
    for place in torch.cartesian_prod(*map(torch.arange, logits.shape)).tolist():
        p, q = logits[tuple(place)].sigmoid(), owed.get(tuple(place))
        if q is None:
            expected[place[0]] -= 0.75 * p**2 * (1 - p).log()
        elif varies:
            expected[place[0]] -= q * (q * p.log() + (1 - q) * (1 - p).log())
        else:
            expected[place[0]] -= 0.25 * (1 - p) ** 2 * p.log()
    boxes = torch.tensor(5.0, dtype=torch.float64)
    counts = LossCounts(boxes, *torch.ones(3, dtype=torch.float64))
    found = class_loss.loss(logits, matches, counts)
    assert torch.allclose(found, expected / 5, rtol=1e-9)


def test_what_varifocal_owes_is_no_way_to_learn():
    """Neither the weight of a wrong class nor the IoU carries a gradient of its own."""
    logits = torch.tensor([[[[0.3]]]], requires_grad=True)
    nobody = torch.zeros(0, dtype=torch.int64)
    matches = MatchedQueries(nobody, nobody, nobody, nobody, torch.zeros(0))
    Varifocal().loss(logits, matches, LossCounts(*torch.ones(4))).sum().backward()
    p = torch.tensor(0.3).sigmoid()
    assert torch.allclose(logits.grad.flatten(), 0.75 * p**2 * p)


def test_who_answers_is_told_by_what_the_logits_mean():
    """The last logit is "no object" to a softmax and a class like others to a sigmoid."""
    logits = torch.tensor([[[[-9.0, -8.0], [1.0, -1.0], [-1.0, 1.0]]]])
    assert Softmax().predicts_object(logits).tolist() == [[[False, True, False]]]
    assert Focal().predicts_object(logits).tolist() == [[[False, True, True]]]
    assert Varifocal().predicts_object(logits).tolist() == [[[False, True, True]]]


@given(st.integers(0, 100))
@settings(max_examples=20)
def test_a_focal_cost_is_what_naming_the_class_changes(seed: int):
    """The cost equals the loss with the class less the loss without it."""
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


def test_the_best_pairs_are_read_across_queries_and_classes():
    """One query may answer with two classes; scores come best first."""
    logits = torch.tensor([[[3.0, 2.0], [-1.0, 1.0]]])
    scores = Focal().decode(logits)
    assert scores.class_index.tolist() == [[0, 1]]
    assert scores.query.tolist() == [[0, 0]]
    assert torch.allclose(scores.score, torch.tensor([[3.0, 2.0]]).sigmoid())


def test_answers_that_tie_are_each_read_once():
    """Every pair of query and class at most once, as many as there are queries."""
    scores = Focal().decode(torch.zeros(2, 5, 3))
    pairs = scores.query * 3 + scores.class_index
    assert pairs.shape == (2, 5)
    assert all(len(image.unique()) == 5 for image in pairs)
