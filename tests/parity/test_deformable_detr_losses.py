"""Losses and gradients of Deformable DETR against transformers'."""

from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion

from .comparison import random_pixels, whole_images
from .random_targets import random_targets
from .set_losses import assert_losses_of_deformable_detr_agree
from .small_deformable_detr import small_deformable_detr


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
    assert_losses_of_deformable_detr_agree(setmatch.load(tmp_path), reference, counts, (64, 64))


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
