"""Convolutions of upsampled maps, without the upsampled copies."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from setmatch.models.layers.cells import Cells, hide, normalize
from setmatch.models.layers.encoders.fusion_blocks import FinerFusion
from setmatch.models.layers.upsampled_convolution import UpsampledConv, convolve_upsampled

SIDES = st.integers(1, 9)


@given(SIDES, SIDES, st.booleans(), st.integers(0, 2**31))
def test_convolving_an_upsampled_map_equals_convolving_its_copy(
    height: int, width: int, same: bool, seed: int
):
    """Values and gradients, odd sizes too."""
    random = torch.Generator().manual_seed(seed)
    size = (-(-height // 2), -(-width // 2)) if not same else (height, width)
    x, weight = (
        torch.randn(*shape, generator=random, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 3, *size), (4, 3, 3, 3))
    )
    weights = torch.randn(2, 4, height, width, generator=random, dtype=torch.float64)
    plain = F.conv2d(F.interpolate(x, size=(height, width)), weight, padding=1)
    ours = convolve_upsampled(x, weight, (height, width))
    assert torch.allclose(ours, plain, atol=1e-12)
    expected = torch.autograd.grad((plain * weights).sum(), (x, weight))
    for actual, wanted in zip(torch.autograd.grad((ours * weights).sum(), (x, weight)), expected):
        assert torch.allclose(actual, wanted, atol=1e-12)


@given(SIDES, SIDES, st.integers(0, 2**31))
def test_one_form_serves_even_and_odd_sizes(height: int, width: int, seed: int):
    """The form for exported models, in which the size is not known."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, -(-height // 2), -(-width // 2), generator=random, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 3, generator=random, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, size=(height, width)), weight, padding=1)
    assert torch.allclose(UpsampledConv(weight)(x, (height, width)), expected, atol=1e-12)


def _concatenated(
    fusion: FinerFusion, finer: torch.Tensor, coarser: torch.Tensor, cells: Cells | None
) -> torch.Tensor:
    """Return the result as the method is written: upsample, concatenate, convolve, normalize."""
    conv, norm = fusion
    upsampled = hide(F.interpolate(coarser, size=finer.shape[-2:]), cells)
    return normalize(norm, conv(torch.cat([finer, upsampled], dim=1)), cells)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (7, 5)])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_two_halves_equal_one_convolution_of_both_maps(
    size: tuple[int, int], padded: bool, training: bool
):
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    fusion = FinerFusion(4).double().train(training)
    nn.init.uniform_(fusion[1].running_mean, -1, 1)
    nn.init.uniform_(fusion[1].running_var, 0.5, 2)
    halves = -(-size[0] // 2), -(-size[1] // 2)
    valid = torch.zeros(2, *size, dtype=torch.bool)
    valid[0], valid[1, :5, :3] = True, True
    cells = Cells(valid) if padded else None
    finer, coarser = (
        torch.randn(2, 4, *sides, generator=random, dtype=torch.float64) for sides in (size, halves)
    )
    finer = hide(finer, cells)
    expected = _concatenated(copy.deepcopy(fusion), finer, coarser, cells)
    assert torch.allclose(fusion((finer, coarser), cells), expected, atol=1e-12)
    if not training:
        assert torch.allclose(fusion.plain()((finer, coarser), cells), expected, atol=1e-12)
