"""How boxes lie to each other: what queries must know of each other so as not to repeat."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.boxes import cxcywh_to_xyxy, intersection_over_union
from setmatch.ops.precision import at_least_single

HIDDEN = 16
SMALLEST = 1e-3  # of the canvas: a side that others are measured by is no smaller


@dataclass(frozen=True)
class QueryAttentionMask:
    """Of each query (row), which others it may listen to, and which the image puts before it.

    `attn_mask` None means all of them. Queries made of spoilt targets have no order.
    """

    attn_mask: Bool[Tensor, "Q Q"] | None
    before: Bool[Tensor, "Q Q"]

    @classmethod
    def in_order(cls, like: Float[Tensor, "B Q D"]) -> "QueryAttentionMask":
        """Return those of queries that are sorted, best first, and may all listen to each other."""
        queries = like.shape[1]
        return cls(None, torch.ones(queries, queries, device=like.device).tril(-1) > 0)


class BoxRelationBias(nn.Module):
    """Adds to how much a query listens to another, for each head, what their boxes are.

    Overlap, distance and ratio of sides (after arXiv 2407.11699, section 3.2), and whether the
    encoder found the other likelier: of two queries at one object that tells which is to be
    silent, which their contents, being alike, cannot. It begins by adding nothing.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.Linear(7, HIDDEN)
        self.last = nn.Linear(HIDDEN, heads)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self, cxcywh: Float[Tensor, "B Q 4"], peers: QueryAttentionMask
    ) -> Float[Tensor, "B H Q Q"]:
        """Return what is added to the affinity of each query (row) for each; -inf forbids it."""
        boxes = at_least_single(cxcywh.detach())
        planes = _planes(boxes, peers.before.to(boxes.dtype))
        hidden = F.relu(_linear(self.first, planes.flatten(2)), inplace=True)  # the largest of all
        bias = at_least_single(_linear(self.last, hidden)).view(-1, self.heads, *planes.shape[2:])
        return (
            bias if peers.attn_mask is None else bias.masked_fill(~peers.attn_mask, float("-inf"))
        )


def _linear(layer: nn.Linear, planes: Float[Tensor, "B C N"]) -> Float[Tensor, "B D N"]:
    """Apply a layer to the planes of all pairs: rows of seven numbers take up to twice the time."""
    weight = layer.weight.expand(planes.shape[0], -1, -1)
    return torch.baddbmm(layer.bias[:, None], weight, planes)


def _planes(
    cxcywh: Float[Tensor, "B Q 4"], before: Float[Tensor, "Q Q"]
) -> Float[Tensor, "B 7 Q Q"]:
    xyxy = cxcywh_to_xyxy(cxcywh)
    overlap = intersection_over_union(xyxy[:, :, None], xyxy[:, None])[:, None]
    center, sides = cxcywh[..., :2].mT, cxcywh[..., 2:].clamp(min=SMALLEST).mT
    distance = (center[..., :, None] - center[..., None, :]).abs() / sides[..., :, None]
    ratio = sides.log()[..., :, None] - sides.log()[..., None, :]
    order = (overlap, overlap * before, before.expand_as(overlap))
    return torch.cat([*order, distance.log1p(), ratio], dim=1)
