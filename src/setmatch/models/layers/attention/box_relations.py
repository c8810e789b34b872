"""Attention bias from box geometry: helps queries not to predict the same object twice."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.ops.precision import at_least_single

HIDDEN = 16
MIN_SIDE = 1e-3  # of the image: box sides are clamped before dividing by them


@dataclass(frozen=True, eq=False)
class QueryAttentionMask:
    """For each query (row), the queries it may attend to and those that rank before it.

    `attn_mask` None means all of them; with padding it may be (B, 1, Q, Q), to hide queries that
    an image alone has not. Denoising queries have no rank.
    """

    attn_mask: Bool[Tensor, "*B Q Q"] | None
    ranks_before: Bool[Tensor, "Q Q"]

    @property
    def of_heads(self) -> Bool[Tensor, "#B 1 Q Q"] | None:
        """`attn_mask` with an axis for the heads of attention."""
        mask = self.attn_mask
        return None if mask is None else mask.view(-1, 1, *mask.shape[-2:])

    @classmethod
    def in_order(
        cls, like: Float[Tensor, "B Q D"], real: Bool[Tensor, "B Q"] | None = None
    ) -> "QueryAttentionMask":
        """Return the mask of queries sorted best first that may all attend to the `real` ones."""
        queries = like.shape[1]
        attn_mask = None if real is None else real[:, None, None].expand(-1, -1, queries, -1)
        return cls(attn_mask, torch.ones(queries, queries, device=like.device).tril(-1) > 0)


class NoBoxRelations(nn.Module):
    """Queries attend to each other whatever their boxes are, as published."""

    def forward(
        self, cxcywh: Float[Tensor, "B Q 4"], query_mask: QueryAttentionMask
    ) -> Bool[Tensor, "_ 1 q q"] | None:
        """Return True where a query may attend to another; None for everywhere.

        Groups of queries that never attend to each other are on the batch axis of a mask.
        """
        return query_mask.of_heads


class BoxRelationBias(nn.Module):
    """A bias on the self-attention logits of each head, computed from pairs of boxes.

    Its inputs are IoU, distance and ratio of sides (after arXiv 2407.11699, section 3.2), and
    whether the other query ranks before: of two queries on one object, whose contents are alike,
    the rank tells which one to suppress. Initialized to zero.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.Linear(7, HIDDEN)
        self.last = nn.Linear(HIDDEN, heads)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, cxcywh: Float[Tensor, "B Q 4"], query_mask: QueryAttentionMask
    ) -> Float[Tensor, "B H Q Q"]:
        """Return the bias of each query (row) for each other; -inf where attention is masked."""
        boxes = at_least_single(cxcywh.detach())
        features = _pair_features(boxes, query_mask.ranks_before.to(boxes.dtype))
        hidden = _linear(self.first.weight, self.first.bias[:, None], features.flatten(2))
        hidden = F.relu(hidden, inplace=True)  # the largest tensor here
        added = self.last.bias[:, None]
        if query_mask.attn_mask is not None:
            # To mask here takes no pass over the bias of all images, neither forward nor backward.
            added = added + torch.where(query_mask.attn_mask, 0.0, float("-inf")).flatten(-2)
        bias = at_least_single(_linear(self.last.weight, added, hidden))
        return bias.view(-1, self.heads, *features.shape[2:])


def _linear(
    weight: Float[Tensor, "D C"], added: Float[Tensor, "*#B D #N"], features: Float[Tensor, "B C N"]
) -> Float[Tensor, "B D N"]:
    """Apply a linear layer along axis 1: up to twice as fast as along a last axis of seven."""
    return torch.baddbmm(added, weight.expand(features.shape[0], -1, -1), features)


def _pair_features(
    cxcywh: Float[Tensor, "B Q 4"], ranks_before: Float[Tensor, "Q Q"]
) -> Float[Tensor, "B 7 Q Q"]:
    xyxy = cxcywh_to_xyxy(cxcywh)
    overlap = intersection_over_union(xyxy[:, :, None], xyxy[:, None])[:, None]
    center, sides = cxcywh[..., :2].mT, cxcywh[..., 2:].clamp(min=MIN_SIDE).mT
    distance = (center[..., :, None] - center[..., None, :]).abs_().div_(sides[..., :, None])
    ratio = sides.log()[..., :, None] - sides.log()[..., None, :]
    order = (overlap, overlap * ranks_before, ranks_before.expand_as(overlap))
    return torch.cat([*order, distance.log1p_(), ratio], dim=1)
