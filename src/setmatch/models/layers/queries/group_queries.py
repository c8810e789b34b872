"""Group queries: several sets of queries in training, of which evaluation keeps the first.

Source: arXiv 2207.13085 (group DETR), as in LW-DETR (arXiv 2406.03459, section 3.2).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention.attention import Attention
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import BoxScalingHead, ClassHead, move_and_scale
from setmatch.models.layers.queries.queries import AnchorSelection, anchor_boxes, chosen_rows
from setmatch.ops.precision import at_least_single


@dataclass(frozen=True)
class GroupProposals:
    """The queries of all groups, one group after the other, and the tokens that placed them.

    `content` and `start_cxcywh` are what the decoder starts from; `tokens`, `logits` and `cxcywh`
    are the selected tokens and what they predict themselves. `real` is False for tokens of padding,
    in images with fewer tokens than queries; None without padding.
    """

    content: Float[Tensor, "B Q D"]
    start_cxcywh: Float[Tensor, "B Q 4"]
    tokens: Float[Tensor, "B Q D"]
    logits: Float[Tensor, "B Q C"]
    cxcywh: Float[Tensor, "B Q 4"]
    real: Bool[Tensor, "B Q"] | None
    groups: int


class GroupQueries(nn.Module):
    """Learned content, at boxes around the tokens with the largest class logit.

    Every group has heads of its own to choose tokens. The start box of a query, relative to the box
    of its token, is learned.
    """

    finest_side = 0.05  # sides of the finest level's anchors, as fractions of the image

    def __init__(self, num_queries: int, dim: int, logits: int, groups: int) -> None:
        super().__init__()
        self.num_queries, self.groups = num_queries, groups
        self.content = nn.Parameter(torch.randn(groups, num_queries, dim))
        self.places = nn.Parameter(torch.zeros(groups, num_queries, 4))
        self.prepare = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim)) for _ in range(groups)
        )
        self.class_heads = nn.ModuleList(ClassHead(dim, logits) for _ in range(groups))
        self.box_steps = nn.ModuleList(BoxScalingHead(dim) for _ in range(groups))

    def forward(self, memory: Memory) -> GroupProposals:
        """Return the queries of the first group, or in training those of all.

        A group has `num_queries` queries, or as many as there are tokens if these are fewer.
        """
        anchors = anchor_boxes(memory, self.finest_side)
        usable = AnchorSelection.inside(anchors)
        if memory.valid is not None:
            usable = usable & memory.valid[..., None]
        visible, anchors = memory.tokens.detach() * usable, anchors * usable
        count = min(self.num_queries, visible.shape[1])
        groups = self.groups if self.training else 1
        tokens, logits, boxes, real = [], [], [], []
        heads = zip(self.prepare, self.class_heads, self.box_steps, strict=True)
        for _, (prepare, class_head, box_step) in zip(range(groups), heads, strict=False):
            prepared = prepare(visible)
            scores = at_least_single(class_head(prepared))
            priority = scores.detach().amax(-1).masked_fill(~usable[..., 0], float("-inf"))
            best = priority.topk(count, dim=1).indices[..., None]
            if torch.is_grad_enabled():  # as in AnchorSelection
                chosen = chosen_rows(memory.tokens, best) * chosen_rows(usable, best)
                prepared = prepare(chosen)
                tokens.append(prepared)
                logits.append(at_least_single(class_head(prepared)))
            else:
                tokens.append(chosen_rows(prepared, best))
                logits.append(chosen_rows(scores, best))
            boxes.append(box_step(tokens[-1], chosen_rows(anchors, best)))
            if memory.valid is not None:
                real.append(memory.valid.gather(1, best[..., 0]))
        cxcywh = torch.cat(boxes, dim=1)
        batch = cxcywh.shape[0]
        places = self.places[:groups, :count].flatten(0, 1)
        return GroupProposals(
            self.content[:groups, :count].flatten(0, 1).expand(batch, -1, -1),
            move_and_scale(cxcywh.detach(), at_least_single(places)),
            torch.cat(tokens, dim=1),
            torch.cat(logits, dim=1),
            cxcywh,
            torch.cat(real, dim=1) if real else None,
            groups,
        )


class GroupAttention(Attention):
    """Self-attention of queries, in training within `groups` groups of equal size.

    A mask has the groups on its batch axis.
    """

    def __init__(self, dim: int, heads: int, groups: int) -> None:
        super().__init__(dim, heads, dropout=0.0)
        self.groups = groups

    def forward(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B Q D"],
        value: Float[Tensor, "B Q D"],
        attn_mask: Bool[Tensor, "#G 1 #q q"] | Float[Tensor, "G H q q"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the attention output of every query."""
        if not self.training or self.groups == 1:
            return super().forward(query, key, value, attn_mask)
        query, key, value = (
            torch.unflatten(x, 1, (self.groups, -1)).flatten(0, 1) for x in (query, key, value)
        )
        output = super().forward(query, key, value, attn_mask)
        return torch.unflatten(output, 0, (-1, self.groups)).flatten(1, 2)
