"""The set loss: its terms, what they are divided by, and what they may never do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.classification import LossCounts, MatchedQueries, Softmax
from setmatch.losses.criterion import Criterion, LossNormalizer
from setmatch.losses.matcher import PendingMatch, start_matching
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions
from setmatch.structures.packed_masks import PackedMasks

CLASSES = 4
CRITERION = Criterion(Softmax(), MatchCosts(), LossWeights())


def _stream(layers: int, images: int, queries: int, seed: int = 0) -> PredictionGroup:
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


def test_a_known_assignment_is_used_as_it_is():
    """A stream that brings its assignment (denoising) is not matched; terms by hand."""
    stream = _stream(1, 1, 3)
    targets = _targets([2])
    image, query, target = torch.tensor([[0, 0], [2, 0], [1, 0]])
    known = PredictionGroup("main", stream.predictions, Assignment(image, query, target))
    (terms,) = CRITERION([known], targets).streams
    owed = torch.tensor([targets[0].classes[0], CLASSES, targets[0].classes[1]])
    weight = torch.tensor([1.0] * CLASSES + [0.1])
    entropy = F.cross_entropy(stream.predictions.logits[0, 0], owed, weight)
    found, wanted = stream.predictions.cxcywh[0, 0, [2, 0]], targets[0].cxcywh[[1, 0]]
    overlap = generalized_box_iou_loss(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted))
    assert terms.classification[0].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert terms.l1[0].item() == pytest.approx((found - wanted).abs().sum().item() / 2, rel=1e-5)
    assert terms.giou[0].item() == pytest.approx(overlap.sum().item() / 2, rel=1e-4)


def test_no_cost_is_waited_for_before_all_are_on_their_way(monkeypatch: pytest.MonkeyPatch):
    """On a GPU the way is then covered: costs leave first, what is known is worked out next."""
    events = []

    def begin(logits: Tensor, *others: Any) -> PendingMatch:
        events.append("leaves")
        under_way = start_matching(logits, *others)

        class Arriving:
            def assignments(self) -> list[Assignment]:
                events.append("arrives")
                return under_way.assignments()

        return Arriving()

    def classify(logits: Tensor, matches: MatchedQueries, counts: LossCounts) -> Tensor:
        events.append(len(matches.query))
        return Softmax().loss(logits, matches, counts)

    class_loss = Softmax()
    object.__setattr__(class_loss, "loss", classify)
    monkeypatch.setattr("setmatch.losses.criterion.begin_match", begin)
    main, first, known = _stream(2, 2, 5), _stream(1, 2, 5, 1), _stream(1, 2, 5, 2)
    pair = Assignment(*torch.tensor([[0], [0], [0]]))
    streams = [
        main,
        replace(first, name="encoder"),
        PredictionGroup("known", known.predictions, pair),
    ]
    losses = Criterion(class_loss, MatchCosts(), LossWeights())(streams, _targets([1, 2]))
    assert events == ["leaves", "leaves", 1, "arrives", 6, "arrives", 3]
    assert [terms.stream for terms in losses.streams] == ["main", "encoder", "known"]


def test_shares_of_a_window_add_up_to_its_loss():
    """rf-detr #1503: four images at once, in twos, or one by one: the same loss and gradient."""
    targets = _targets([3, 0, 1, 2])
    losses, gradients = [], []
    for size in (4, 2, 1):
        stream = _stream(2, 4, 6)
        logits, boxes = stream.predictions.logits, stream.predictions.cxcywh
        shares = [slice(start, start + size) for start in range(0, 4, size)]
        window = LossNormalizer(
            sum(LossNormalizer.of(targets[share], 6).counts for share in shares)
        )
        assert torch.equal(window.counts, LossNormalizer.of(targets, 6).counts)
        total = torch.zeros(())
        for share in shares:
            part = PredictionGroup("main", Predictions(logits[:, share], boxes[:, share]))
            total = total + CRITERION([part], targets[share], window).total
        total.backward()
        losses.append(total.item())
        gradients.append(logits.grad)
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=1e-7)


def test_every_layer_weighs_the_same_and_is_matched_anew():
    """Six layers cost the sum of the six alone."""
    stream = _stream(3, 2, 5)
    targets = _targets([2, 3])
    alone = sum(
        CRITERION(
            [
                PredictionGroup(
                    "main",
                    Predictions(
                        stream.predictions.logits[layer : layer + 1],
                        stream.predictions.cxcywh[layer : layer + 1],
                    ),
                )
            ],
            targets,
        ).total.item()
        for layer in range(3)
    )
    assert CRITERION([stream], targets).total.item() == pytest.approx(alone, rel=1e-6)


def test_without_auxiliary_losses_only_the_last_layer_is_trained():
    """Earlier layers get no gradient."""
    stream = _stream(3, 1, 5)
    criterion = Criterion(Softmax(), MatchCosts(), LossWeights(auxiliary=False))
    criterion([stream], _targets([2])).total.backward()
    assert stream.predictions.logits.grad[:2].abs().sum() == 0
    assert stream.predictions.logits.grad[2].abs().sum() > 0


def test_losses_are_float32_under_autocast():
    """Predictions in half precision are lifted before anything is computed."""
    stream = _stream(1, 1, 5)
    half = Predictions(stream.predictions.logits.bfloat16(), stream.predictions.cxcywh.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        losses = CRITERION([PredictionGroup("main", half)], _targets([2]))
    assert losses.total.dtype == torch.float32


@pytest.mark.parametrize("counts", [[0, 0], [0, 3], [9, 0]])
def test_empty_and_crowded_images_give_finite_losses(counts: list[int]):
    """detr #82, #508: no object at all, or more objects than queries."""
    losses = CRITERION([_stream(2, 2, 5)], _targets(counts))
    assert torch.isfinite(losses.total)
    assert all(torch.isfinite(value) for value in losses.terms.values())


def _with_masks(target: Target, seed: int, size_px: tuple[int, int] = (20, 28)) -> Target:
    random = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(target), *size_px, generator=random) < 0.4
    return Target(target.classes, target.cxcywh, PackedMasks.pack(masks))


def test_mask_shares_of_a_window_add_up_to_its_loss():
    """Masks are divided by the boxes of the window too, alone or together."""
    targets = [_with_masks(target, seed) for seed, target in enumerate(_targets([3, 0, 1, 2]))]
    masks = torch.randn(4, 6, 5, 7, generator=torch.Generator().manual_seed(3)).requires_grad_()
    whole = LossNormalizer.of(targets, 6)
    losses, gradients = [], []
    for size in (4, 2, 1):
        predictions = _stream(2, 4, 6).predictions
        total = torch.zeros(2)
        for start in range(0, 4, size):
            share = slice(start, start + size)
            part = Predictions(
                predictions.logits[:, share], predictions.cxcywh[:, share], masks[share]
            )
            (terms,) = CRITERION([PredictionGroup("main", part)], targets[share], whole).streams
            total = total + terms.masks
        gradients += torch.autograd.grad(total.sum(), masks)
        losses.append(total.tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    for gradient in gradients[1:]:
        assert torch.allclose(gradient, gradients[0], atol=1e-7)


def test_only_matched_masks_are_made():
    """`mask_decoder` is asked once, for the matched queries of the last layer, and is logged."""
    targets = [_with_masks(target, seed) for seed, target in enumerate(_targets([2, 1]))]
    stream, asked = _stream(3, 2, 6), []

    def mask_decoder(image: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        asked.append((image.tolist(), query))
        return torch.zeros(len(image), 5, 7)

    losses = CRITERION([replace(stream, mask_decoder=mask_decoder)], targets)
    ((images, _),) = asked
    assert images == [0, 0, 1]
    assert losses.terms["mask"].item() == pytest.approx(0.25 * np.log(2) * _mixture(targets) / 3)
    weights = LossWeights(mask=0, dice=0)
    without = Criterion(Softmax(), MatchCosts(), weights)([stream], targets)
    mask, dice = losses.terms["mask"], losses.terms["dice"]
    assert (losses.total - without.total).item() == pytest.approx((mask + dice).item(), rel=1e-4)
    assert "mask" not in without.terms


def _mixture(targets: list[Target]) -> float:
    """The sum over masks of the mean of alpha, 1/4 on objects and 3/4 beside them."""
    shares = torch.cat([t.masks.unpack().double().mean((1, 2)) for t in targets])
    return float((0.25 * shares + 0.75 * (1 - shares)).sum())


def test_objects_without_masks_teach_the_mask_head_nothing():
    """Their loss is zero, and there is one, so that every parameter has a gradient."""
    masks = torch.randn(2, 6, 5, 7).requires_grad_()
    predictions = replace(_stream(1, 2, 6).predictions, masks=masks)
    losses = CRITERION([PredictionGroup("main", predictions)], _targets([2, 1]))
    losses.total.backward()
    assert losses.terms["mask"] == 0
    assert masks.grad.count_nonzero() == 0
