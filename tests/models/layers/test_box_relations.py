"""What queries are told of each other's boxes."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from setmatch.models.layers.attention import Attention
from setmatch.models.layers.box_relations import SMALLEST, BoxRelationBias, QueryAttentionMask
from setmatch.ops.boxes import cxcywh_to_xyxy

BOXES = torch.tensor(
    [[[0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.4, 0.2], [0.6, 0.5, 0.1, 0.8], [0.1, 0.1, 1e-4, 0.3]]]
)


def _peers(attn_mask: Tensor | None = None) -> QueryAttentionMask:
    return QueryAttentionMask(attn_mask, QueryAttentionMask.in_order(BOXES).before)


def _known(me: Tensor, other: Tensor, before: bool) -> list[float]:
    """Return by hand what the query with box `me` is told of the one with box `other`."""
    overlap = box_iou(*(cxcywh_to_xyxy(box)[None] for box in (me, other))).item()
    mine = [max(side, SMALLEST) for side in me[2:].tolist()]
    theirs = [max(side, SMALLEST) for side in other[2:].tolist()]
    far = [
        math.log1p(abs(a - b) / side)
        for a, b, side in zip(me[:2].tolist(), other[:2].tolist(), mine, strict=True)
    ]
    ratio = [math.log(a / b) for a, b in zip(mine, theirs, strict=True)]
    return [overlap, overlap * before, float(before), *far, *ratio]


def test_relations_are_what_they_are_by_hand():
    """Overlap, order, distance and ratio of sides of every pair, through two layers."""
    torch.manual_seed(0)
    relations = BoxRelationBias(3)
    torch.nn.init.normal_(relations.last.weight)
    bias = relations(BOXES, _peers())
    for row in range(4):
        for column in range(4):
            known = torch.tensor(_known(BOXES[0, row], BOXES[0, column], column < row))
            owed = relations.last(relations.first(known).relu())
            assert torch.allclose(bias[0, :, row, column], owed, atol=1e-5)


def test_untrained_relations_change_nothing():
    """So that a model begins as if its queries were told nothing."""
    assert not BoxRelationBias(3)(BOXES, _peers()).any()


def test_of_two_queries_alike_only_one_is_told_to_be_silent():
    """Same content, same box: what tells them apart is which of them came first."""
    torch.manual_seed(0)
    relations = BoxRelationBias(1)
    torch.nn.init.normal_(relations.last.weight)
    bias = relations(BOXES, _peers())[0, 0]
    assert bias[1, 0] != bias[0, 1]


def test_who_is_not_allowed_is_never_listened_to():
    """The bias forbids what the peers do not allow, and attention then gives it no weight."""
    torch.manual_seed(0)
    attn_mask = torch.eye(4, dtype=torch.bool)
    bias = BoxRelationBias(2)(BOXES, _peers(attn_mask))
    assert torch.equal(bias == float("-inf"), (~attn_mask).expand(1, 2, 4, 4))
    content = torch.randn(1, 4, 8)
    weights = Attention(8, 2, dropout=0.0).weights(content, content, bias)
    assert torch.equal(weights, torch.eye(4).expand(1, 2, 4, 4))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_bias_counts_alike_in_the_fused_kernel_and_where_weights_are_shown(kind: torch.dtype):
    """What explanations show is what the model computes."""
    torch.manual_seed(0)
    attention = Attention(8, 2, dropout=0.0)
    content, bias = torch.randn(2, 5, 8), torch.randn(2, 2, 5, 5)
    with torch.autocast("cpu", kind, enabled=kind != torch.float32):
        found = attention(content, content, content, bias)
    value = attention.value(content).unflatten(-1, (2, 4)).transpose(1, 2)
    mixed = attention.weights(content, content, bias) @ value
    owed = attention.out(mixed.transpose(1, 2).flatten(2))
    assert torch.allclose(found.float(), owed, atol=1e-5 if kind == torch.float32 else 3e-2)
