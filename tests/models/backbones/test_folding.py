"""Folded batch norms give what the convolution and the norm give one after the other."""

import copy

import pytest
import torch
from torch import nn

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.layers.cells import Cells, hide
from setmatch.models.layers.encoders.fusion_blocks import ConvNormSiLU, RepVGGBlock


def _with_statistics(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.5, 2)
    return module.eval()


def _cells(height: int, width: int) -> Cells:
    valid = torch.ones(2, height, width, dtype=torch.bool)
    valid[1, :, 3:] = False
    return Cells(valid)


@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 1, 1), (1, 1, 1), (3, 2, 8), (2, 1, 1)]
)
@pytest.mark.parametrize("kind", [ConvNorm, ConvNormSiLU])
def test_it_equals_a_convolution_and_its_norm(kind, kernel: int, stride: int, groups: int):
    """In evaluation, with padding and without; the plain form, too."""
    module = _with_statistics(kind(8, 16, kernel, stride, groups)).double()
    features = torch.randn(2, 8, 7, 9, dtype=torch.float64)
    apart = module[1](module[0](features))
    for cells in (None, _cells(*apart.shape[-2:])):
        expected = hide(apart, cells)
        if kind is ConvNormSiLU:
            expected = nn.functional.silu(expected)
        for form in (module, module.plain()):
            torch.testing.assert_close(form(features, cells), expected)


def test_branches_side_by_side_are_one_convolution():
    block = _with_statistics(RepVGGBlock(8)).double()
    features = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    for cells in (None, _cells(5, 6)):
        branches = block.wide(features, cells) + block.pointwise(features, cells)
        for form in (block, block.plain()):
            torch.testing.assert_close(form(features, cells), nn.functional.silu(branches))


def test_changed_weights_and_statistics_are_used_at_once():
    """Nothing is kept from one call to the next: averages of weights change while evaluated."""
    block = _with_statistics(RepVGGBlock(4))
    features = torch.randn(1, 4, 5, 5)
    before = block(features, None)
    with torch.no_grad():
        block.pointwise[0].weight.mul_(2)
        block.wide[1].running_mean.add_(1)
    fresh = copy.deepcopy(block)
    assert not torch.allclose(block(features, None), before)
    assert torch.equal(block(features, None), fresh(features, None))


def test_training_takes_the_statistics_of_the_batch():
    module = ConvNorm(4, 4).train()
    features = torch.randn(2, 4, 6, 6)
    output = module(features)
    assert torch.allclose(output.mean((0, 2, 3)), torch.zeros(4), atol=1e-5)
    assert module[1].num_batches_tracked == 1
