"""What the backbone of D-FINE promises beyond parity with transformers."""

import torch
from torch import nn

from known_models import SMALL_DFINE
from setmatch.models.registry import build
from setmatch.structures.metadata import Categories, ModelCard

CATEGORIES = Categories((1, 2), ("cat", "dog"))


def _backbone(frozen: bool):
    arguments = {**SMALL_DFINE, "frozen_norms": frozen}
    return build(ModelCard("dfine_s", arguments, CATEGORIES)).backbone


def test_frozen_norms_learn_nothing_in_training_and_others_do():
    pixels = torch.randn(2, 3, 64, 64)
    for frozen in (True, False):
        backbone = _backbone(frozen).train()
        before = {name: value.clone() for name, value in backbone.named_buffers()}
        sum(level.sum() for level in backbone(pixels)).backward()
        norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
        learned = [p.grad is not None for norm in norms for p in norm.parameters()]
        changed = [not torch.equal(before[name], value) for name, value in backbone.named_buffers()]
        assert any(learned) is not frozen
        assert any(changed) is not frozen
        assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


def test_levels_are_the_last_stages():
    backbone = _backbone(True).eval()
    levels = backbone(torch.randn(1, 3, 70, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [(24, 9, 12), (32, 5, 6), (48, 3, 3)]
    assert backbone.channels == (24, 32, 48)
