"""Sampling by indexing equals grid_sample."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from setmatch.models.layers.attention.point_sampling import (
    Shapes,
    sample_gathered,
    sample_grid,
    sample_levels,
)


@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_all_ways_to_sample_are_equal(seed: int, levels: list[tuple[int, int]], reach: float):
    """Values and gradients, on levels of any size, at places inside, outside and at the edges."""
    random = torch.Generator().manual_seed(seed)
    tokens = sum(height * width for height, width in levels)
    spread = (2, 3, 2, len(levels), 2)  # images, queries, heads, levels, points
    value = torch.randn(2, tokens, 8, generator=random).double().requires_grad_()
    places = torch.rand(*spread, 2, generator=random).double()
    places = ((places - 0.5) * (1 + 2 * reach) + 0.5).requires_grad_()
    weights = torch.rand(spread, generator=random).double().requires_grad_()
    direction = torch.randn(2, 3, 8, generator=random).double()
    results = []
    for sample in (sample_grid, sample_gathered, _by_rows):
        sampled = sample(value, places, weights, tuple(levels))
        gradients = torch.autograd.grad((sampled * direction).sum(), (value, places, weights))
        results.append((sampled, *gradients))
    for grid, *others in zip(*results):
        assert all(torch.allclose(grid, other, rtol=0, atol=1e-9) for other in others)


def _by_rows(
    value: torch.Tensor, places: torch.Tensor, weights: torch.Tensor, shapes: Shapes
) -> torch.Tensor:
    return sample_levels(value, places.unbind(3), weights.unbind(3), shapes, sample_grid)


def test_levels_may_have_different_numbers_of_points():
    random = torch.Generator().manual_seed(0)
    shapes, points = ((4, 6), (3, 2), (1, 1)), (3, 1, 2)
    value = torch.randn(2, 31, 8, generator=random)
    places = [torch.rand(2, 5, 4, count, 2, generator=random) for count in points]
    weights = [torch.rand(2, 5, 4, count, generator=random) for count in points]
    rows = sample_levels(value, places, weights, shapes, sample_grid)
    one_by_one = sample_levels(value, places, weights, shapes, sample_gathered)
    assert torch.allclose(rows, one_by_one, atol=1e-5)


def test_places_that_are_no_numbers_give_values_that_are_none():
    """A run that diverges ends with the sentence about its loss, not with an index error."""
    places = torch.full((1, 2, 1, 1, 2), float("nan"))
    sampled = sample_levels(
        torch.ones(1, 4, 2), [places], [torch.ones(1, 2, 1, 1)], ((2, 2),), sample_grid
    )
    assert sampled.isnan().all()


@pytest.mark.parametrize("edge", [0.0, 1.0, -0.25, 1.25])
def test_zeros_lie_outside_of_a_level(edge: float):
    """At the edge half of the sample lies outside; beyond a neighbor's distance all of it."""
    value = torch.ones(1, 4, 1)
    place = torch.full((1, 1, 1, 1, 1, 2), 0.5)
    place[..., 0] = edge
    weight = torch.ones(1, 1, 1, 1, 1)
    expected = 0.5 if edge in (0.0, 1.0) else 0.0
    for sample in (sample_grid, sample_gathered, _by_rows):
        assert sample(value, place, weight, ((2, 2),)).item() == pytest.approx(expected)


class MostAxes(TorchDispatchMode):
    """The largest number of axes of any tensor that is computed."""

    found = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        tensors = [each for each in tree_leaves(result) if isinstance(each, torch.Tensor)]
        self.found = max([self.found, *(each.ndim for each in tensors)])
        return result


def test_no_tensor_has_more_than_six_axes():
    """OpenVINO computes wrongly with seven of them, if one is dynamic."""
    spread = (2, 3, 2, 2, 4)  # images, queries, heads, levels, points
    value, places, weights = torch.rand(2, 13, 8), torch.rand(*spread, 2), torch.rand(spread)
    with MostAxes() as most:
        sample_gathered(value, places, weights, ((3, 3), (2, 2)))
    assert most.found <= 6
