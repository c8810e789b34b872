"""Losses and gradients of Deformable DETR against transformers'."""

from pathlib import Path

import pytest
import torch
from torch import nn

import setmatch
from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion

from .comparison import gradient_norm, random_pixels, whole_images
from .random_targets import random_targets
from .small_deformable_detr import small_deformable_detr

NAMES = {"class": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}


@pytest.mark.parametrize(
    ("case", "counts"),
    [
        ("refine", (4, 0)),
        pytest.param("plain", (3, 3), marks=pytest.mark.campaign),
        pytest.param("two_stage", (3, 1), marks=pytest.mark.campaign),
    ],
)
def test_every_loss_and_its_gradients(case: str, counts: tuple[int, int], tmp_path: Path):
    """Without the loss of the encoder's proposals, which transformers does not have."""
    reference = small_deformable_detr(case, dropout=0.0)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path).train().double()
    reference.train().double()
    for name, parameter in reference.model.backbone.named_parameters():
        parameter.requires_grad_("layer" in name and "layer1" not in name)  # as its authors do
    pixels = random_pixels((64, 64), 2, torch.float64)
    targets = random_targets(counts, classes=7)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh.double()} for t in targets]
    result = reference(pixel_values=pixels, labels=labels)

    main = model(whole_images(pixels), targets)[:1]
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(main, targets)
    (ours,) = (group.terms for group in losses.groups)
    layers = len(ours["class"])
    for layer in range(layers):
        ending = "" if layer == layers - 1 else f"_{layer}"
        for name, their_name in NAMES.items():
            expected = result.loss_dict[their_name + ending].item()
            assert ours[name][layer].item() == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(result.loss.item(), rel=1e-4)
    losses.total.backward()
    result.loss.backward()
    hub = reference.model
    parts = (
        (model.backbone, hub.backbone),
        (model.encoder.project, hub.input_proj),
        (model.encoder.sampling_layers, hub.encoder),
        (model.decoder.layers, hub.decoder.layers),
        (model.queries, _queries(hub)),
    )
    for our_part, their_part in parts:
        assert gradient_norm(our_part) == pytest.approx(gradient_norm(their_part), rel=1e-3)
    assert model.encoder.level.grad.norm().item() == pytest.approx(
        hub.level_embed.grad.norm().item(), rel=1e-3
    )


def _queries(hub: nn.Module) -> nn.Module:
    """What makes queries: learned, or of the encoder's boxes, which get no gradient."""
    if hub.config.two_stage:
        return nn.ModuleList([hub.pos_trans, hub.pos_trans_norm])
    return nn.ModuleList([hub.query_position_embeddings, hub.reference_points])


def test_proposals_of_the_encoder_are_trained_to_be_objects_of_any_class(tmp_path: Path):
    """The classes of targets do not change the loss of proposals."""
    small_deformable_detr("two_stage", dropout=0.0).save_pretrained(tmp_path)
    model = setmatch.load(tmp_path).train()
    pixels = random_pixels((64, 64), 2, torch.float32)
    criterion = Criterion(model.class_loss, MatchCosts(), LossWeights())
    found = []
    for classes in (7, 1):
        targets = random_targets((3, 2), classes)
        boxes = found[0][1] if found else [each.cxcywh for each in targets]
        for target, cxcywh in zip(targets, boxes, strict=True):
            object.__setattr__(target, "cxcywh", cxcywh)
        losses = criterion(model(whole_images(pixels), targets), targets)
        encoder = next(group for group in losses.groups if group.group == "encoder")
        found.append((encoder.terms, boxes))
    (first, _), (second, _) = found
    for name in ("class", "l1", "giou"):
        assert torch.equal(first[name], second[name])
    assert model.queries.class_head.weight.grad is None
    losses.total.backward()
    assert model.queries.class_head.weight.grad.abs().sum() > 0
    assert model.queries.box_step.last.weight.grad.abs().sum() > 0
