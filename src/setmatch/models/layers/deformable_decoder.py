"""Boxes that are refined: every decoder layer moves the boxes of the one before."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention import Attention, FeedForward, PostNorm, with_pos_embed
from setmatch.models.layers.box_relations import BoxRelationBias, QueryAttentionMask
from setmatch.models.layers.deformable_attention import DeformableAttention
from setmatch.models.layers.heads import BoxRefinementHead, ClassHead
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.ops.precision import at_least_single


class DeformableDecoderLayer(nn.Module):
    """Self-attention among queries, deformable attention to the memory, a feed-forward network."""

    def __init__(self, dim: int, heads: int, ffn_dim: int, levels: int, points: int) -> None:
        super().__init__()
        self.relations = BoxRelationBias(heads)
        self.self_attention = Attention(dim, heads, dropout=0.0)
        self.cross_attention = DeformableAttention(dim, heads, levels, points)
        self.ffn = FeedForward(dim, ffn_dim, dropout=0.0)
        self.around_self = PostNorm(dim, dropout=0.0)
        self.around_cross = PostNorm(dim, dropout=0.0)
        self.around_ffn = PostNorm(dim, dropout=0.0)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        position: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        peers: QueryAttentionMask,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after one look at the others and at the image."""
        affinity = self.relations(cxcywh, peers)

        def look_at_others(x: Tensor) -> Tensor:
            at = with_pos_embed(x, position)
            return self.self_attention(at, at, x, affinity)

        def look_at_image(x: Tensor) -> Tensor:
            return self.cross_attention(with_pos_embed(x, position), cxcywh, memory)

        content = self.around_self(content, look_at_others)
        content = self.around_cross(content, look_at_image)
        return self.around_ffn(content, self.ffn)


class RefiningDecoder(nn.Module):
    """A stack of layers with heads of their own; each starts from the boxes of the last, detached.

    A query's position is a function of its box (arXiv 2201.12329); boxes move in logit space, and
    no gradient flows through the box a layer starts from (arXiv 2010.04159, section 4.2).
    """

    def __init__(self, layers: list[DeformableDecoderLayer], dim: int, logits: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.class_heads = nn.ModuleList(ClassHead(dim, logits) for _ in layers)
        self.box_steps = nn.ModuleList(BoxRefinementHead(dim) for _ in layers)
        self.position = nn.Sequential(nn.Linear(4, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        peers: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return every layer's logits and boxes, in fractions of the canvas, and the last content.

        `peers` says which query may look at which, and which comes first.
        """
        logits, boxes = [], []
        for layer, class_head, box_step in zip(
            self.layers, self.class_heads, self.box_steps, strict=True
        ):
            content = layer(content, self.position(2 * cxcywh - 1), cxcywh, memory, peers)
            moved = box_step(content, cxcywh)
            logits.append(at_least_single(class_head(content)))
            boxes.append(moved)
            cxcywh = moved.detach()
        return torch.stack(logits), torch.stack(boxes), content
