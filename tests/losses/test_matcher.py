"""Hungarian matching: optimal, separate for every image, robust to non-finite values."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from setmatch.config import MatchCosts
from setmatch.losses.classification import ClassificationLoss, Focal, Softmax, Varifocal
from setmatch.losses.matcher import match, pairwise_cost, start_matching, union_of
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment

CLASS_LOSS, COSTS = Softmax(), MatchCosts()
NOTHING = {"class": 0, "l1": 0, "giou": 0}


def _predictions(layers: int, images: int, queries: int, seed: int = 0, classes: int = 5):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, images, queries, classes + 1, generator=random)
    return logits, torch.rand(layers, images, queries, 4, generator=random) * 0.5 + 0.1


def _targets(counts: list[int], seed: int = 0, classes: int = 5) -> list[Target]:
    random = torch.Generator().manual_seed(seed + 100)
    return [
        Target(
            torch.randint(0, classes, (count,), generator=random),
            torch.rand(count, 4, generator=random) * 0.4 + 0.1,
        )
        for count in counts
    ]


@pytest.mark.filterwarnings("ignore:Target. box:UserWarning")  # random ones may reach far out
@pytest.mark.parametrize("class_loss", [Softmax(), Varifocal()])
@given(seed=st.integers(0, 1000), weight=st.sampled_from([0.5, 1, 3]))
def test_quality_is_the_score_times_the_fourth_power_of_the_iou(
    class_loss: ClassificationLoss, seed: int, weight: float
):
    """The matching cost of DEIMv2's last epochs, which pairs of no overlap cannot lower."""
    logits, boxes = _predictions(2, 2, 4, seed)
    targets = _targets([3, 2], seed)
    quality = MatchCosts.model_validate({**NOTHING, "quality": weight})
    cost = pairwise_cost(logits, boxes, targets, class_loss, quality)
    probability = logits.softmax(-1) if class_loss == Softmax() else logits.sigmoid()
    for image, target in enumerate(targets):
        score = probability[:, image][..., target.classes]
        first, second = box_convert(boxes[:, image].flatten(0, 1), "cxcywh", "xyxy"), target.cxcywh
        iou = box_iou(first, box_convert(second, "cxcywh", "xyxy")).view(2, 4, -1)
        found = cost[:, image, :, : len(target)]
        assert torch.allclose(found, -weight * score * iou.pow(4), atol=1e-6)
    both = COSTS.model_copy(update={"quality": weight})
    summed = pairwise_cost(logits, boxes, targets, class_loss, both)
    others = pairwise_cost(logits, boxes, targets, class_loss, COSTS)
    assert torch.allclose(summed, others + cost, atol=1e-5)


def test_shuffled_queries_give_the_shuffled_assignment():
    logits, boxes = _predictions(1, 2, 8)
    targets = _targets([3, 2])
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    (plain,) = match(logits, boxes, targets, CLASS_LOSS, COSTS)
    (shuffled,) = match(logits[:, :, order], boxes[:, :, order], targets, CLASS_LOSS, COSTS)
    pairs = set(zip(plain.image.tolist(), plain.query.tolist(), plain.target.tolist()))
    moved = zip(shuffled.image.tolist(), order[shuffled.query].tolist(), shuffled.target.tolist())
    assert pairs == set(moved)


@pytest.mark.filterwarnings("ignore:Target. box .* reaches far out of the image")  # some do
@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 1000))
def test_no_other_assignment_has_a_lower_cost(counts: list[int], seed: int):
    """Every permutation of four queries is tried, for each layer and image."""
    logits, boxes = _predictions(2, len(counts), 4, seed)
    targets = _targets(counts, seed)
    assignments = match(logits, boxes, targets, CLASS_LOSS, COSTS)
    if sum(counts) == 0:
        assert all(len(assignment.query) == 0 for assignment in assignments)
        return
    cost = pairwise_cost(logits, boxes, targets, CLASS_LOSS, COSTS)
    first = [sum(counts[:index]) for index in range(len(counts))]
    for layer, assignment in enumerate(assignments):
        for image, count in enumerate(counts):
            mine = assignment.image == image
            query, target = assignment.query[mine], assignment.target[mine] - first[image]
            assert sorted(target.tolist()) == list(range(count))
            table = cost[layer, image]
            total = table[query, target].sum().item()
            best = min(
                sum(table[q, t].item() for t, q in enumerate(order))
                for order in itertools.permutations(range(4), count)
            )
            assert total == pytest.approx(best, abs=1e-5)


def test_an_image_is_matched_the_same_alone_and_in_a_batch():
    logits, boxes = _predictions(3, 2, 10)
    targets = _targets([4, 7])
    together = match(logits, boxes, targets, CLASS_LOSS, COSTS)
    alone = match(logits[:, 1:], boxes[:, 1:], targets[1:], CLASS_LOSS, COSTS)
    for layer in range(3):
        mine = together[layer].image == 1
        assert torch.equal(together[layer].query[mine], alone[layer].query)
        assert torch.equal(together[layer].target[mine] - 4, alone[layer].target)


@pytest.mark.parametrize("count", [0, 1, 10, 11, 2000])
def test_any_number_of_targets_is_matched(count: int):
    """From none to far more than there are queries; a query has at most one target."""
    logits, boxes = _predictions(2, 2, 10)
    for assignment in match(logits, boxes, _targets([count, 3]), CLASS_LOSS, COSTS):
        assert (assignment.image == 0).sum() == min(count, 10)
        query = assignment.query[assignment.image == 0]
        assert len(query.unique()) == len(query)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_predictions_never_raise(bad: float, everywhere: bool):
    """detr #101, rf-detr #431: the other image of the batch is matched as if it were alone."""
    logits, boxes = _predictions(1, 2, 6)
    targets = _targets([3, 2])
    expected = match(logits[:, 1:], boxes[:, 1:], targets[1:], CLASS_LOSS, COSTS)[0]
    logits[0, 0, 2], boxes[0, 0, 4] = bad, bad
    if everywhere:
        logits[0, 0], boxes[0, 0] = bad, bad
    (assignment,) = match(logits, boxes, targets, CLASS_LOSS, COSTS)
    assert torch.equal(assignment.query[assignment.image == 1], expected.query)
    assert (assignment.image == 0).sum() == 3


def test_costs_are_float32_under_autocast():
    """D-FINE #199: half precision would change assignments."""
    logits, boxes = _predictions(1, 1, 6)
    targets = _targets([3])
    plain = pairwise_cost(logits, boxes, targets, CLASS_LOSS, COSTS)
    with torch.autocast("cpu", torch.bfloat16):
        cast = pairwise_cost(logits, boxes, targets, CLASS_LOSS, COSTS)
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("class_loss", [Softmax(), Focal(), Varifocal()], ids=str)
def test_half_precision_never_overflows(class_loss: ClassificationLoss):
    """D-FINE #199, detr #101: costs of logits at float16's limit equal those in float32."""
    logits, boxes = _predictions(2, 2, 6)
    logits = (logits.sign() * torch.finfo(torch.float16).max).half()
    logits = logits[..., : class_loss.num_logits(5)]
    targets = _targets([3, 2])
    cost = pairwise_cost(logits, boxes.half(), targets, class_loss, COSTS)
    assert cost.dtype == torch.float32
    assert cost.isfinite().all()
    assert torch.equal(
        cost, pairwise_cost(logits.float(), boxes.half().float(), targets, class_loss, COSTS)
    )


@pytest.mark.filterwarnings("ignore:Target. box:UserWarning")  # random ones may reach far out
@given(st.integers(1, 4), st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(0, 99))
def test_groups_of_queries_are_matched_as_if_they_were_alone(
    groups: int, counts: list[int], seed: int
):
    """Also with more targets than a group has queries; pairs are sorted by image, then query."""
    queries = 4
    logits, boxes = _predictions(2, len(counts), groups * queries, seed)
    targets = _targets(counts, seed)
    whole = start_matching(logits, boxes, targets, CLASS_LOSS, COSTS, groups).assignments()
    for assignment in whole:
        pairs = list(zip(assignment.image.tolist(), assignment.query.tolist(), strict=True))
        assert pairs == sorted(pairs)
    for group in range(groups):
        own = slice(group * queries, (group + 1) * queries)
        alone = match(logits[:, :, own], boxes[:, :, own], targets, CLASS_LOSS, COSTS)
        for together, expected in zip(whole, alone, strict=True):
            of_group = together.query.div(queries, rounding_mode="floor") == group
            for ours, theirs, start in (
                (together.image, expected.image, 0),
                (together.query, expected.query, own.start),
                (together.target, expected.target, 0),
            ):
                assert torch.equal(ours[of_group], theirs + start)


def test_the_union_of_matches_keeps_the_most_frequent_target_of_each_query():
    """By hand: query 0 of image 0 has target 1 twice and 0 once; two queries share target 1."""
    layers = [
        _matches([(0, 0, 1), (0, 2, 0), (1, 0, 2)]),
        _matches([(0, 0, 1), (0, 3, 0), (1, 1, 2)]),
        _matches([(0, 0, 0), (0, 2, 1), (1, 0, 2)]),
    ]
    union = union_of(layers, queries=4, targets=3)
    pairs = torch.stack([union.image, union.query, union.target], dim=1).tolist()
    # Query 2 has targets 0 and 1 once each: the first one stays.
    assert pairs == [[0, 0, 1], [0, 2, 0], [0, 3, 0], [1, 0, 2], [1, 1, 2]]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.randoms(use_true_random=False))
def test_the_union_is_that_of_counted_pairs(layers: int, images: int, queries: int, random):
    """Against a count of pairs in plain Python; a matching has each target at most once."""
    counts = [random.randint(0, 5) for _ in range(images)]
    starts = [sum(counts[:image]) for image in range(images)]
    matchings: list[list[tuple[int, int, int]]] = [
        [
            (image, query, starts[image] + target)
            for image, count in enumerate(counts)
            for query, target in sorted(
                zip(
                    random.sample(range(queries), min(queries, count)),
                    random.sample(range(count), min(queries, count)),
                    strict=True,
                )
            )
        ]
        for _ in range(layers)
    ]
    frequency = Counter(pair for pairs in matchings for pair in pairs)
    expected: dict[tuple[int, int], int] = {}
    for image, query, target in sorted(frequency, key=lambda pair: (-frequency[pair], pair)):
        expected.setdefault((image, query), target)
    union = union_of([_matches(pairs) for pairs in matchings], queries, sum(counts))
    found = zip(union.image.tolist(), union.query.tolist(), union.target.tolist(), strict=True)
    assert list(found) == [(*place, expected[place]) for place in sorted(expected)]


def _matches(pairs: list[tuple[int, int, int]]) -> Assignment:
    return Assignment(*torch.tensor(pairs, dtype=torch.int64).view(-1, 3).unbind(1))
