"""Losses and gradients of D-FINE against transformers' on the same denoising noise.

transformers pairs the distributions of each decoder layer with the boxes of the layer before, and
never trains the boxes of the last but one. Its losses of distributions are therefore compared layer
by layer, as its function computes them; those of classes and boxes where both train the same.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers.loss.loss_d_fine import DFineLoss
from transformers.models.d_fine import modeling_d_fine

import setmatch
from setmatch.config import LossWeights
from setmatch.losses.criterion import Criterion
from setmatch.losses.matcher import match
from setmatch.structures.batch import Target
from setmatch.structures.outputs import PredictionGroup

from .comparison import whole_images
from .distribution_losses import COSTS, assert_class_and_box_losses_agree, keep_boxes_inside
from .random_targets import random_targets
from .small_dfine import small_dfine


def _pair(tmp_path: Path):
    reference = small_dfine()
    keep_boxes_inside(reference)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    return reference.train(), model.train()


@pytest.mark.parametrize("counts", [(3, 3), (4, 1)])
def test_class_and_box_losses_and_their_gradients(counts, monkeypatch, tmp_path: Path):
    reference, model = _pair(tmp_path)
    inner = reference.model
    encoder = torch.nn.ModuleList([inner.encoder_input_proj, inner.encoder])
    parts = (
        (model.backbone, inner.backbone),
        (model.encoder, encoder),
        (model.decoder, inner.decoder),
        (model.denoising, inner.denoising_class_embed),
    )
    assert_class_and_box_losses_agree(
        model, reference, counts, "loss_vfl", modeling_d_fine, parts, monkeypatch
    )


@pytest.mark.parametrize("counts", [(3, 3), (4, 0), (0, 0)])
def test_losses_of_distributions(counts: tuple[int, ...], tmp_path: Path):
    """Each layer's with its own boxes and matches, as the authors pair them."""
    reference, model = _pair(tmp_path)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    targets = random_targets(counts, classes=7)
    groups = model(whole_images(pixels), targets)
    criterion = Criterion(model.class_loss, COSTS, LossWeights())
    terms = {group.group: group.terms for group in criterion(groups, targets).groups}
    main = groups[0]
    assert "edges" not in terms["start"]
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    for layer, expected in enumerate(_local_losses(reference, main, targets, labels)):
        assert terms["main"]["edges"][layer].item() == pytest.approx(expected["loss_fgl"], rel=1e-4)
        distilled = terms["main"]["distillation"][layer].item()
        assert distilled == pytest.approx(expected["loss_ddf"], rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("counts", [(3, 3), (4, 0), (0, 0)])
def test_losses_of_pooled_matches(counts: tuple[int, ...], tmp_path: Path):
    """Boxes and edges of every layer on the union of all matches, as the authors train them.

    transformers has no such union: its functions get the union that this test counts itself.
    """
    reference, model = _pair(tmp_path)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    targets = random_targets(counts, classes=7)
    groups = model(whole_images(pixels), targets)
    pooling = LossWeights(pooled_matches=True)
    plain, pooled = (
        {
            each.group: each.terms
            for each in Criterion(model.class_loss, COSTS, weights)(groups, targets).groups
        }
        for weights in (LossWeights(), pooling)
    )
    matched = [group for group in groups if group.assignment is None]
    assert [group.name for group in matched] == ["main", "encoder", "start"]
    union = _union([pairs for group in matched for pairs in _matches(group, targets)])
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    loss, size = DFineLoss(reference.config), max(sum(len(query) for query, _ in union), 1)
    for group in matched:
        for layer, boxes in enumerate(group.predictions.cxcywh.float()):
            expected = loss.loss_boxes({"pred_boxes": boxes}, labels, union, size)
            found = pooled[group.name]
            assert found["l1"][layer].item() == pytest.approx(
                float(expected["loss_bbox"].detach()), rel=1e-4
            )
            giou = float(expected["loss_giou"].detach())
            assert found["giou"][layer].item() == pytest.approx(giou, rel=1e-4)
            assert torch.equal(found["class"], plain[group.name]["class"])
    for layer in range(len(groups[0].predictions.logits)):
        expected = loss.loss_local(_edges_of(groups[0], layer), labels, union, size)
        edges, distilled = (pooled["main"][name][layer].item() for name in TERMS_OF_EDGES)
        assert edges == pytest.approx(float(expected["loss_fgl"].detach()), rel=1e-4)
        assert distilled == pytest.approx(float(expected["loss_ddf"].detach()), rel=1e-4, abs=1e-7)
    assert all(
        torch.equal(pooled["denoising"][name], value)
        for name, value in plain["denoising"].items()
        if name != "distillation"
    )
    if sum(counts):
        assert size > sum(counts)
        assert not torch.equal(pooled["main"]["l1"], plain["main"]["l1"])


class _WeighedByQueries(DFineLoss):
    """Weighs both kinds of distillation by fixed numbers, as the authors do for denoising."""

    matched_and_others = (1.0, 1.0)
    num_pos = property(lambda self: self.matched_and_others[0] ** 0.5, lambda self, _: None)
    num_neg = property(lambda self: self.matched_and_others[1] ** 0.5, lambda self, _: None)


@pytest.mark.parametrize("pools", [False, True])
@pytest.mark.parametrize("counts", [(3, 3), (4, 0)])
def test_denoising_is_distilled_by_the_numbers_of_the_models_queries(
    counts: tuple[int, ...], pools: bool, tmp_path: Path
):
    """As the authors' code does, which keeps the numbers of the last queries without noise."""
    reference, model = _pair(tmp_path)
    pixels = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    targets = random_targets(counts, classes=7)
    groups = model(whole_images(pixels), targets)
    noised = next(group for group in groups if group.name == "denoising")
    criterion = Criterion(model.class_loss, COSTS, LossWeights(pooled_matches=pools))
    terms = {group.group: group.terms for group in criterion(groups, targets).groups}
    matchings = [
        pairs for group in groups if group.assignment is None for pairs in _matches(group, targets)
    ]
    matched = sum(len(query) for query, _ in _union(matchings)) if pools else sum(counts)
    queries = groups[0].predictions.logits.shape[2]
    loss = _WeighedByQueries(reference.config)
    loss.matched_and_others = (matched, 2 * queries - matched)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    assignment, starts = noised.assignment, [0, counts[0]]
    assert assignment is not None
    indices = [
        (assignment.query[chosen], assignment.target[chosen] - starts[image])
        for image in range(2)
        for chosen in [assignment.image == image]
    ]
    for layer in range(len(noised.predictions.logits)):
        expected = loss.loss_local(_edges_of(noised, layer), labels, indices, 1)["loss_ddf"]
        found = terms["denoising"]["distillation"][layer].item()
        assert found == pytest.approx(float(expected.detach()), rel=1e-4, abs=1e-7)


TERMS_OF_EDGES = ("edges", "distillation")
Pairs = list[tuple[torch.Tensor, torch.Tensor]]  # queries and targets of each image


def _matches(group: PredictionGroup, targets: list[Target]) -> list[Pairs]:
    """The matches of each layer, with targets counted from 0 in each image."""
    logits, boxes = group.predictions.logits.float(), group.predictions.cxcywh.float()
    assignments = match(logits, boxes, targets, setmatch.losses.Varifocal(), COSTS)
    starts = [0, len(targets[0])]
    return [
        [
            (assignment.query[chosen], assignment.target[chosen] - starts[image])
            for image in range(2)
            for chosen in [assignment.image == image]
        ]
        for assignment in assignments
    ]


def _union(matchings: list[Pairs]) -> Pairs:
    """The most frequent target of each query that any matching has."""
    union = []
    for image in range(2):
        pairs = [zip(*(each.tolist() for each in pairs[image]), strict=True) for pairs in matchings]
        frequency = Counter(pair for each in pairs for pair in each)
        kept: dict[int, int] = {}
        for query, target in sorted(frequency, key=lambda pair: (-frequency[pair], pair)):
            kept.setdefault(query, target)
        queries, chosen = torch.tensor(list(kept), dtype=torch.int64), list(kept.values())
        union.append((queries, torch.tensor(chosen, dtype=torch.int64)))
    return union


def _edges_of(main: PredictionGroup, layer: int) -> dict[str, torch.Tensor]:
    """What transformers' loss_local takes of a layer."""
    assert main.edges is not None
    return {
        "pred_boxes": main.predictions.cxcywh.float()[layer],
        "pred_corners": main.edges.logits[layer].flatten(2).float(),
        "ref_points": main.edges.start_cxcywh.float(),
        "teacher_corners": main.edges.logits[-1].flatten(2).float(),
        "teacher_logits": main.predictions.logits.float()[-1],
    }


def _local_losses(
    reference, main: PredictionGroup, targets: list[Target], labels
) -> list[dict[str, float]]:
    """transformers' loss_local of every layer, on the predictions of a group of ours."""
    loss = DFineLoss(reference.config)
    count = max(sum(len(target) for target in targets), 1)
    values = []
    for layer, indices in enumerate(_matches(main, targets)):
        found = loss.loss_local(_edges_of(main, layer), labels, indices, count)
        values.append({name: float(value.detach()) for name, value in found.items()})
    return values
