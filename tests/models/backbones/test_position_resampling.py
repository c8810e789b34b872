"""Positions are resampled as torch's bicubic interpolation does it."""

import pytest
import torch
from torch.nn import functional as F

from setmatch.models.backbones.position_resampling import (
    antialiased_weights,
    interpolating_weights,
    resampled,
)


@pytest.mark.parametrize("shape", [(14, 14), (40, 40), (7, 23), (3, 1), (15, 13), (64, 5)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resampled_positions_are_those_of_torch(shape: tuple[int, int], antialias: bool):
    torch.manual_seed(0)
    positions = torch.randn(1, 14 * 14, 5, dtype=torch.float64)
    grid = positions.view(1, 14, 14, 5).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, shape, mode="bicubic", antialias=antialias)
    weights = antialiased_weights if antialias else interpolating_weights
    ours = resampled(positions, 14, shape, weights).permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, expected)
