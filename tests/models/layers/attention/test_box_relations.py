"""The self-attention bias from pairs of boxes."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from setmatch.models.layers.attention.attention import Attention
from setmatch.models.layers.attention.box_relations import (
    MIN_SIDE,
    BoxRelationBias,
    QueryAttentionMask,
)
from setmatch.ops.boxes import cxcywh_to_xyxy

BOXES = torch.tensor(
    [[[0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.4, 0.2], [0.6, 0.5, 0.1, 0.8], [0.1, 0.1, 1e-4, 0.3]]]
)


def _query_mask(attn_mask: Tensor | None = None) -> QueryAttentionMask:
    return QueryAttentionMask(attn_mask, QueryAttentionMask.in_order(BOXES).ranks_before)


def _features(own: Tensor, other: Tensor, ranks_before: bool) -> list[float]:
    """Return the features of a pair of boxes, computed by hand."""
    overlap = box_iou(*(cxcywh_to_xyxy(box)[None] for box in (own, other))).item()
    mine = [max(side, MIN_SIDE) for side in own[2:].tolist()]
    theirs = [max(side, MIN_SIDE) for side in other[2:].tolist()]
    distance = [
        math.log1p(abs(a - b) / side)
        for a, b, side in zip(own[:2].tolist(), other[:2].tolist(), mine, strict=True)
    ]
    ratio = [math.log(a / b) for a, b in zip(mine, theirs, strict=True)]
    return [overlap, overlap * ranks_before, float(ranks_before), *distance, *ratio]


def test_the_bias_equals_a_computation_by_hand():
    """IoU, rank, distance and ratio of sides of every pair, through two layers."""
    torch.manual_seed(0)
    relations = BoxRelationBias(3)
    torch.nn.init.normal_(relations.last.weight)
    bias = relations(BOXES, _query_mask())
    for row in range(4):
        for column in range(4):
            features = torch.tensor(_features(BOXES[0, row], BOXES[0, column], column < row))
            expected = relations.last(relations.first(features).relu())
            assert torch.allclose(bias[0, :, row, column], expected, atol=1e-5)


def test_the_initial_bias_is_zero():
    assert not BoxRelationBias(3)(BOXES, _query_mask()).any()


def test_rank_tells_two_equal_queries_apart():
    torch.manual_seed(0)
    relations = BoxRelationBias(1)
    torch.nn.init.normal_(relations.last.weight)
    bias = relations(BOXES, _query_mask())[0, 0]
    assert bias[1, 0] != bias[0, 1]


def test_masked_queries_get_no_attention():
    torch.manual_seed(0)
    attn_mask = torch.eye(4, dtype=torch.bool)
    bias = BoxRelationBias(2)(BOXES, _query_mask(attn_mask))
    assert torch.equal(bias == float("-inf"), (~attn_mask).expand(1, 2, 4, 4))
    content = torch.randn(1, 4, 8)
    weights = Attention(8, 2, dropout=0.0).weights(content, content, bias)
    assert torch.equal(weights, torch.eye(4).expand(1, 2, 4, 4))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_attention_weights_include_the_bias_as_the_fused_kernel_does(kind: torch.dtype):
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.0)
    content, bias = torch.randn(2, 5, 8), torch.randn(2, 2, 5, 5)
    with torch.autocast("cpu", kind, enabled=kind != torch.float32):
        output = attention(content, content, content, bias)
    value = attention.value(content).unflatten(-1, (2, 4)).transpose(1, 2)
    attended = attention.weights(content, content, bias) @ value
    expected = attention.out(attended.transpose(1, 2).flatten(2))
    assert torch.allclose(output.float(), expected, atol=1e-5 if kind == torch.float32 else 3e-2)
