"""A decoder with iterative box refinement: each layer corrects the boxes of the previous one."""

from collections.abc import Callable
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.attention.attention import (
    Attention,
    FeedForward,
    PostNorm,
    with_pos_embed,
)
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.attention.deformable_attention import PointAttention
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import Activation, BoxRefinementHead, ClassHead, Perceptron
from setmatch.ops.precision import at_least_single


class DeformableDecoderLayer(nn.Module):
    """Self-attention among queries, deformable cross-attention, a feed-forward network.

    `relations` says how boxes bias the self-attention, `cross_attention` how queries sample the
    memory. `dropout` is that of what the branches add.
    """

    def __init__(
        self,
        dim: int,
        relations: nn.Module,
        self_attention: Attention,
        cross_attention: PointAttention,
        ffn: FeedForward,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.relations = relations
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.ffn = ffn
        self.around_self = PostNorm(dim, dropout)
        self.around_cross = PostNorm(dim, dropout)
        self.around_ffn = PostNorm(dim, dropout)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        position: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after self-attention, cross-attention and FFN."""
        bias = self.relations(cxcywh, query_mask)

        def attend_to_queries(x: Tensor) -> Tensor:
            positioned = with_pos_embed(x, position)
            return self.self_attention(positioned, positioned, x, bias)

        def attend_to_image(x: Tensor) -> Tensor:
            return self.cross_attention(with_pos_embed(x, position), cxcywh, memory)

        content = self.around_self(content, attend_to_queries)
        content = self.around_cross(content, attend_to_image)
        return self.around_ffn(content, self.ffn)


class CenteredPosition(nn.Sequential):
    """A perceptron that encodes a box whose coordinates are centered around 0."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Linear(4, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, cxcywh: Float[Tensor, "B Q 4"]) -> Float[Tensor, "B Q D"]:
        """Return the encoding of every box."""
        widen, relu, narrow = self
        return narrow(relu(widen(2 * cxcywh - 1)))


class BoxPosition(Perceptron):
    """A perceptron that encodes a box (arXiv 2304.08069)."""

    def __init__(self, dim: int, activation: Activation = F.relu) -> None:
        super().__init__(4, 2 * dim, dim, activation=activation)


Decoded = tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]


class RefiningLayers(nn.Module):
    """Decoder layers with a class head and a box head each; every layer refines the boxes.

    Boxes are corrected in logit space, without gradient through the input boxes (arXiv 2010.04159,
    section 4.2); `margin` is how near to 0 and 1 they come. In evaluation the first `eval_layers`
    layers run, or all.
    """

    def __init__(
        self,
        layers: list[DeformableDecoderLayer],
        dim: int,
        logits: int,
        margin: float,
        eval_layers: int | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.class_heads = nn.ModuleList(ClassHead(dim, logits) for _ in layers)
        self.box_steps = nn.ModuleList(BoxRefinementHead(dim, margin) for _ in layers)
        self.eval_layers = eval_layers

    def refine(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
        position_of: Callable[[Tensor], Tensor],
    ) -> Decoded:
        """Return every layer's logits and boxes, and the content after the last layer.

        `position_of` encodes the boxes that a layer starts from.
        """
        logits, boxes = [], []
        steps = zip(self.layers, self.class_heads, self.box_steps, strict=True)
        used = None if self.training else self.eval_layers
        for layer, class_head, box_step in islice(steps, used):
            content = layer(content, position_of(cxcywh), cxcywh, memory, query_mask)
            refined = box_step(content, cxcywh)
            logits.append(at_least_single(class_head(content)))
            boxes.append(refined)
            cxcywh = refined.detach()
        return torch.stack(logits), torch.stack(boxes), content


class RefiningDecoder(RefiningLayers):
    """The same, where a query's position encoding is a function of its box (arXiv 2201.12329)."""

    def __init__(
        self,
        layers: list[DeformableDecoderLayer],
        dim: int,
        logits: int,
        position: Callable[[int], nn.Module] = CenteredPosition,
        margin: float = 1e-3,
        eval_layers: int | None = None,
    ) -> None:
        super().__init__(layers, dim, logits, margin, eval_layers)
        self.position = position(dim)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> Decoded:
        """Return every layer's logits and boxes, and the content after the last layer."""
        return self.refine(content, cxcywh, memory, query_mask, self.position)
