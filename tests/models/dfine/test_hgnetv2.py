"""What the backbone of D-FINE promises beyond parity with transformers."""

import pytest
import torch
from torch import nn

from known_models import SMALL_DFINE
from setmatch.models.backbones.hgnetv2 import ScaleAndShift
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scale_and_shift_have_the_gradients_of_a_product_and_a_sum(dtype: torch.dtype):
    """In bfloat16 a step computes them in the precision of the two numbers."""
    layer, plain = ScaleAndShift(), ScaleAndShift()
    features = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    gradients = []
    for function in (layer, lambda x: plain.scale * x + plain.shift):
        inputs = features.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            function(inputs).square().sum().backward()
        gradients.append(inputs.grad)
    pairs = [gradients, *((a.grad, b.grad) for a, b in zip(layer.parameters(), plain.parameters()))]
    assert len(pairs) == 3
    assert all(torch.allclose(ours, theirs, rtol=1e-5) for ours, theirs in pairs)
