"""The set loss: its terms, their normalization, and edge cases."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from setmatch.config import LossWeights, MatchCosts
from setmatch.errors import ConfigError
from setmatch.losses.base import LossTerm
from setmatch.losses.classification import MatchedQueries, Softmax, Varifocal
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import PendingMatch, start_matching
from setmatch.losses.normalizer import LossNormalizer
from setmatch.losses.terms import TERMS
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions
from setmatch.structures.packed_masks import PackedMasks

CLASSES = 4
CRITERION = Criterion(Softmax(), MatchCosts(), LossWeights())


def _group(layers: int, images: int, queries: int, seed: int = 0) -> PredictionGroup:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(layers, images, queries, CLASSES + 1, generator=random)
    boxes = torch.rand(layers, images, queries, 4, generator=random) * 0.5 + 0.1
    return PredictionGroup("main", Predictions(logits.requires_grad_(), boxes.requires_grad_()))


def _targets(counts: list[int]) -> list[Target]:
    random = torch.Generator().manual_seed(9)
    return [
        Target(
            torch.randint(0, CLASSES, (count,), generator=random),
            torch.rand(count, 4, generator=random) * 0.4 + 0.1,
        )
        for count in counts
    ]


def test_a_known_assignment_is_not_matched_again():
    """Denoising groups have one. The terms are compared with a computation by hand."""
    group = _group(1, 1, 3)
    targets = _targets([2])
    image, query, target = torch.tensor([[0, 0], [2, 0], [1, 0]])
    known = PredictionGroup("main", group.predictions, Assignment(image, query, target))
    (losses,) = CRITERION([known], targets).groups
    terms = losses.terms
    target_class = torch.tensor([targets[0].classes[0], CLASSES, targets[0].classes[1]])
    weight = torch.tensor([1.0] * CLASSES + [0.1])
    entropy = F.cross_entropy(group.predictions.logits[0, 0], target_class, weight)
    predicted, target_boxes = group.predictions.cxcywh[0, 0, [2, 0]], targets[0].cxcywh[[1, 0]]
    giou = generalized_box_iou_loss(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target_boxes))
    l1 = (predicted - target_boxes).abs().sum() / 2
    assert terms["class"][0].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert terms["l1"][0].item() == pytest.approx(l1.item(), rel=1e-5)
    assert terms["giou"][0].item() == pytest.approx(giou.sum().item() / 2, rel=1e-4)


def test_all_costs_are_sent_before_any_is_awaited(monkeypatch: pytest.MonkeyPatch):
    """On a GPU, the losses of known assignments are computed while the costs are copied."""
    events = []

    def start(logits: Tensor, *others: Any) -> PendingMatch:
        events.append("sent")
        pending = start_matching(logits, *others)

        class Awaited:
            def assignments(self) -> list[Assignment]:
                events.append("awaited")
                return pending.assignments()

        return Awaited()

    def classify(logits: Tensor, matches: MatchedQueries, normalizer: LossNormalizer) -> Tensor:
        events.append(len(matches.query))
        return Softmax().loss(logits, matches, normalizer)

    class_loss = Softmax()
    object.__setattr__(class_loss, "loss", classify)
    monkeypatch.setattr("setmatch.losses.criterion.start_matching", start)
    main, first, known = _group(2, 2, 5), _group(1, 2, 5, 1), _group(1, 2, 5, 2)
    pair = Assignment(*torch.tensor([[0], [0], [0]]))
    groups = [
        main,
        replace(first, name="encoder"),
        PredictionGroup("known", known.predictions, pair),
    ]
    losses = Criterion(class_loss, MatchCosts(), LossWeights())(groups, _targets([1, 2]))
    assert events == ["sent", "sent", 1, "awaited", 6, "awaited", 3]
    assert [group.group for group in losses.groups] == ["main", "encoder", "known"]


def test_micro_batch_losses_add_up_to_the_loss_of_the_step():
    """rf-detr #1503: micro-batches of four, two and one image give the same loss and gradient."""
    targets = _targets([3, 0, 1, 2])
    losses, gradients = [], []
    for size in (4, 2, 1):
        group = _group(2, 4, 6)
        logits, boxes = group.predictions.logits, group.predictions.cxcywh
        parts = [slice(start, start + size) for start in range(0, 4, size)]
        step = LossNormalizer(sum(LossNormalizer.of(targets[part], 6).counts for part in parts))
        assert torch.equal(step.counts, LossNormalizer.of(targets, 6).counts)
        total = torch.zeros(())
        for part in parts:
            group = PredictionGroup("main", Predictions(logits[:, part], boxes[:, part]))
            total = total + CRITERION([group], targets[part], step).total
        total.backward()
        losses.append(total.item())
        gradients.append(logits.grad)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=1e-7)


def test_every_layer_has_the_same_weight_and_is_matched_separately():
    """The loss of three layers is the sum of their losses alone."""
    group = _group(3, 2, 5)
    targets = _targets([2, 3])
    alone = sum(
        CRITERION(
            [
                PredictionGroup(
                    "main",
                    Predictions(
                        group.predictions.logits[layer : layer + 1],
                        group.predictions.cxcywh[layer : layer + 1],
                    ),
                )
            ],
            targets,
        ).total.item()
        for layer in range(3)
    )
    assert CRITERION([group], targets).total.item() == pytest.approx(alone, rel=1e-6)


def test_without_auxiliary_losses_only_the_last_layer_is_trained():
    group = _group(3, 1, 5)
    criterion = Criterion(Softmax(), MatchCosts(), LossWeights(auxiliary=False))
    criterion([group], _targets([2])).total.backward()
    assert group.predictions.logits.grad[:2].abs().sum() == 0
    assert group.predictions.logits.grad[2].abs().sum() > 0


def test_losses_are_float32_under_autocast():
    """Predictions in half precision are converted before anything is computed."""
    group = _group(1, 1, 5)
    half = Predictions(group.predictions.logits.bfloat16(), group.predictions.cxcywh.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        losses = CRITERION([PredictionGroup("main", half)], _targets([2]))
    assert losses.total.dtype == torch.float32


@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [9, 0]])
def test_empty_and_crowded_images_give_finite_losses(counts: list[int]):
    """detr #82, #508: no objects, or more objects than queries."""
    losses = CRITERION([_group(2, 2, 5)], _targets(counts))
    assert torch.isfinite(losses.total)
    assert all(torch.isfinite(value) for value in losses.terms.values())


def _with_masks(target: Target, seed: int, size_px: tuple[int, int] = (20, 28)) -> Target:
    random = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(target), *size_px, generator=random) < 0.4
    return Target(target.classes, target.cxcywh, PackedMasks.pack(masks))


def test_mask_losses_of_micro_batches_add_up_to_those_of_the_step():
    """They are divided by the target boxes of the whole step."""
    targets = [_with_masks(target, seed) for seed, target in enumerate(_targets([3, 0, 1, 2]))]
    masks = torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(3)).requires_grad_()
    step = LossNormalizer.of(targets, 6)
    losses, gradients = [], []
    for size in (4, 2, 1):
        predictions = _group(2, 4, 6).predictions
        total = torch.zeros(2)
        for start in range(0, 4, size):
            share = slice(start, start + size)
            part = Predictions(
                predictions.logits[:, share], predictions.cxcywh[:, share], masks[share]
            )
            (part_losses,) = CRITERION([PredictionGroup("main", part)], targets[share], step).groups
            total = total + torch.stack([part_losses.terms["mask"], part_losses.terms["dice"]])
        gradients += torch.autograd.grad(total.sum(), masks)
        losses.append(total.tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=1e-7)


def test_masks_are_decoded_for_matched_queries_only():
    """`mask_decoder` is called once, for the matched queries of the last layer."""
    targets = [_with_masks(target, seed) for seed, target in enumerate(_targets([2, 1]))]
    group, calls = _group(3, 2, 6), []

    def mask_decoder(image: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        calls.append((image.tolist(), query))
        return torch.zeros(len(image), 5, 7)

    losses = CRITERION([replace(group, mask_decoder=mask_decoder)], targets)
    ((images, _),) = calls
    assert images == [0, 0, 1]
    assert losses.terms["mask"].item() == pytest.approx(0.25 * np.log(2) * _mean_alpha(targets) / 3)
    weights = LossWeights(mask=0, dice=0)
    without = Criterion(Softmax(), MatchCosts(), weights)([group], targets)
    mask, dice = losses.terms["mask"], losses.terms["dice"]
    assert (losses.total - without.total).item() == pytest.approx((mask + dice).item(), rel=1e-4)
    assert "mask" not in without.terms


def _mean_alpha(targets: list[Target]) -> float:
    """The sum over masks of the mean of alpha, 1/4 on the object and 3/4 beside it."""
    fractions = torch.cat([t.masks.unpack().double().mean((1, 2)) for t in targets])
    return float((0.25 * fractions + 0.75 * (1 - fractions)).sum())


def test_objects_without_masks_have_a_zero_mask_loss():
    """The loss exists, so every parameter has a gradient."""
    masks = torch.randn(2, 6, 5, 7).requires_grad_()
    predictions = replace(_group(1, 2, 6).predictions, masks=masks)
    losses = CRITERION([PredictionGroup("main", predictions)], _targets([2, 1]))
    losses.total.backward()
    assert losses.terms["mask"] == 0
    assert masks.grad.count_nonzero() == 0


@pytest.mark.parametrize(
    ("weight", "message"),
    [("aspct", r"loss\.extra\.aspect: missing"), ("l1", "l1 is a built-in weight; set loss.l1")],
)
def test_a_term_without_a_weight_is_refused(weight: str, message: str):
    term = LossTerm("aspect", "aspect", lambda matched: matched.num_boxes)
    with pytest.raises((ConfigError, ValueError), match=message):
        Criterion(Varifocal(), MatchCosts(), LossWeights(extra={weight: 1}), (*TERMS, term))


def test_a_weight_without_a_term_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.extra\.aspect: no loss term has this weight"):
        Criterion(Varifocal(), MatchCosts(), LossWeights(extra={"aspect": 1.0}))
