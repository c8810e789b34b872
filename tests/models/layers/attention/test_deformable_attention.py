"""Deformable attention against a direct loop over queries, heads, levels and points."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from encoder_memory import memory_of
from setmatch.models.layers.attention.deformable_attention import (
    DeformableAttention,
    PointAttention,
    SampledBeforeProjection,
)
from setmatch.models.layers.cells import Cells
from setmatch.models.layers.encoders.hybrid_encoder import Memory


def _pixel(level: torch.Tensor, row: int, column: int) -> torch.Tensor:
    inside = 0 <= row < level.shape[0] and 0 <= column < level.shape[1]
    return level[row, column] if inside else torch.zeros_like(level[0, 0])


def _bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Sample (h, w, D) at fractions x, y, cell centers at half a cell, zero outside."""
    column, row = x * level.shape[1] - 0.5, y * level.shape[0] - 0.5
    left, top = math.floor(column), math.floor(row)
    right, low = column - left, row - top
    return (
        (1 - right) * (1 - low) * _pixel(level, top, left)
        + right * (1 - low) * _pixel(level, top, left + 1)
        + (1 - right) * low * _pixel(level, top + 1, left)
        + right * low * _pixel(level, top + 1, left + 1)
    )


@given(st.integers(0, 1000), st.sampled_from([((3, 4), (2, 2)), ((1, 1), (1, 5)), ((2, 3),)]))
@settings(max_examples=25)
def test_deformable_attention_equals_a_direct_loop(seed: int, shapes: tuple[tuple[int, int], ...]):
    """Every head, level and point by hand; boxes at corners and outside, levels of one cell."""
    torch.manual_seed(seed)
    attention = DeformableAttention(8, 2, len(shapes), 3).double()
    with torch.no_grad():
        attention.offsets.weight.normal_(0, 0.5)
        attention.attention.weight.normal_(0, 0.5)
    memory = memory_of(shapes, 8, seed)
    memory = replace(memory, tokens=memory.tokens.double())
    query, boxes = torch.randn(2, 4, 8).double(), torch.rand(2, 4, 4).double()
    boxes[0, 0] = torch.tensor([0.0, 0.0, 1.0, 1.0])
    boxes[0, 1] = torch.tensor([1.0, 1.0, 0.3, 2.0])
    with torch.no_grad():
        spread = (2, len(shapes), 3)
        offsets = attention.offsets(query).view(2, 4, *spread, 2)
        weights = attention.attention(query).view(2, 4, 2, -1).softmax(-1).view(2, 4, *spread)
        value = attention.value(memory.tokens)
        expected = torch.zeros(2, 4, 8, dtype=torch.float64)
        for image in range(2):
            levels = value[image].split([h * w for h, w in shapes])
            for q in range(4):
                cx, cy, width, height = boxes[image, q].tolist()
                for head in range(2):
                    mine = slice(4 * head, 4 * head + 4)
                    for index, shape in enumerate(shapes):
                        level = levels[index].view(*shape, 8)[..., mine]
                        for point in range(3):
                            at = (image, q, head, index, point)
                            right, down = offsets[at].tolist()
                            x, y = cx + right * width / 2, cy + down * height / 2
                            sampled = _bilinear(level, x, y)
                            expected[image, q, mine] += weights[at].item() * sampled
        theirs = attention.out(expected)
        for form in forms(attention):
            ours = form(query, boxes, memory)
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def forms(attention: DeformableAttention) -> list[nn.Module]:
    """The attention, and its plain forms for narrow and for wide models."""
    narrow, wide = attention.plain(), PointAttention.plain(attention)
    assert isinstance(narrow, SampledBeforeProjection)
    assert isinstance(wide, DeformableAttention)
    return [attention, narrow, wide]


def test_wide_models_project_first():
    """Sampling whole tokens for every head would take longer."""
    assert isinstance(DeformableAttention(256, 8, 3, 4).plain(), DeformableAttention)


@pytest.mark.parametrize(
    ("point", "value"),
    [
        ((0.25, 0.25), 1.0),  # the center of the first cell
        ((0.5, 0.25), 1.5),  # half-way to its neighbor
        ((0.0, 0.0), 0.25),  # a corner: three of the four neighbors are outside
        ((1.0, 1.0), 1.0),
        ((1.0, 0.5), 1.5),  # half of the mean of two cells
        ((-0.25, 0.25), 0.0),  # one cell outside
        ((7.0, -3.0), 0.0),
    ],
)
def test_sampling_is_bilinear_with_zeros_outside(point: tuple[float, float], value: float):
    """Cell centers, borders, corners, and far outside, exactly."""
    attention = DeformableAttention(4, 1, 1, 1)
    for part in (attention.value, attention.out):
        torch.nn.init.eye_(part.weight)
        torch.nn.init.zeros_(part.bias)
    torch.nn.init.zeros_(attention.offsets.bias)
    cells = torch.tensor([[1.0, 2.0, 3.0, 4.0]])[..., None].expand(1, 4, 4).contiguous()
    memory = Memory(cells, ((2, 2),))
    box = torch.tensor([[[*point, 0.1, 0.1]]])
    for form in forms(attention):
        assert torch.equal(form(torch.zeros(1, 1, 4), box, memory), torch.full((1, 1, 4), value))


def test_a_level_of_one_cell_fades_towards_its_border():
    """Half at the border, zero half an image outside."""
    attention = DeformableAttention(4, 1, 1, 1)
    for part in (attention.value, attention.out):
        torch.nn.init.eye_(part.weight)
        torch.nn.init.zeros_(part.bias)
    torch.nn.init.zeros_(attention.offsets.bias)
    memory = Memory(torch.full((1, 1, 4), 8.0), ((1, 1),))
    boxes = torch.tensor([[[0.5, 0.5, 1, 1], [1.0, 0.5, 1, 1], [1.5, 0.5, 1, 1]]])
    for form in forms(attention):
        output = form(torch.zeros(1, 3, 4), boxes, memory)
        assert output[0, :, 0].tolist() == [8.0, 4.0, 0.0]


def test_weights_of_a_query_sum_to_one():
    """Over all levels and points of a head."""
    attention = DeformableAttention(8, 2, 2, 3)
    _, weights = attention.sampling_points(
        torch.randn(1, 5, 8), torch.rand(1, 5, 4), memory_of(((4, 4), (2, 2)), 8)
    )
    assert torch.allclose(weights.sum((-1, -2)), torch.ones(1, 5, 2))


def test_padding_does_not_leak_through_sampling_points():
    memory = memory_of(((4, 4),), 8)
    cells = (Cells((torch.arange(16) < 8).view(1, 4, 4).expand(2, 4, 4)),)
    attention = DeformableAttention(8, 2, 1, 3)
    query, boxes = torch.randn(2, 3, 8), torch.rand(2, 3, 4)
    changed = memory.tokens.clone()
    changed[:, 8:] = 99.0
    outputs = []
    for form in forms(attention):
        before = form(query, boxes, Memory(memory.tokens, memory.shapes, cells))
        after = form(query, boxes, Memory(changed, memory.shapes, cells))
        assert torch.equal(before, after)
        outputs.append(after)
    for other in outputs[1:]:
        assert torch.allclose(other, outputs[0], rtol=0, atol=1e-6)
