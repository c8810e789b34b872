"""A decoder that refines the edges of boxes as distributions (arXiv 2410.13842, section 4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.attention.attention import Attention, PostNorm, with_pos_embed
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.attention.value_sampling import ValueSampling
from setmatch.models.layers.decoders.deformable_decoder import BoxPosition
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import Activation, BoxRefinementHead, ClassHead, Perceptron
from setmatch.ops.edge_bins import edge_bins, move_edges
from setmatch.ops.precision import at_least_single
from setmatch.structures.outputs import EdgeDistributions

MakeNorm = Callable[[int], nn.Module]
FARTHEST = 10.0  # the position encoding of a box is clamped to +-FARTHEST
MARGIN = 1e-5  # of coordinates to 0 and 1, where logits are infinite


@dataclass(frozen=True)
class RefinedQueries:
    """What a decoder with distributions makes of its queries.

    `start_logits` and `start_cxcywh` are the first layer's, before any edge is moved.
    """

    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]
    start_logits: Float[Tensor, "B Q C"]
    start_cxcywh: Float[Tensor, "B Q 4"]
    edges: EdgeDistributions


class Gate(nn.Module):
    """Learned weights for the sum of two inputs, then a norm; both weights start at a half."""

    def __init__(self, dim: int, norm: MakeNorm = nn.LayerNorm) -> None:
        super().__init__()
        self.weights = nn.Linear(2 * dim, 2 * dim)
        self.norm = norm(dim)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)

    def forward(
        self, old: Float[Tensor, "B Q D"], new: Float[Tensor, "B Q D"]
    ) -> Float[Tensor, "B Q D"]:
        """Return norm(a · old + b · new) for weights a and b of each feature."""
        a, b = self.weights(torch.cat([old, new], dim=-1)).sigmoid().chunk(2, dim=-1)
        return self.norm(a * old + b * new)


class Sum(nn.Module):
    """The sum of two inputs, then a norm: a gate that learns no weights."""

    def __init__(self, dim: int, norm: MakeNorm = nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm(dim)

    def forward(
        self, old: Float[Tensor, "B Q D"], new: Float[Tensor, "B Q D"]
    ) -> Float[Tensor, "B Q D"]:
        """Return norm(old + new)."""
        return self.norm(old + new)


class GatedDecoderLayer(nn.Module):
    """Self-attention among queries, samples of the image through a gate, a feed-forward network.

    `gate` joins what queries were with what they sample; `norm` makes the norms of the others.
    """

    def __init__(
        self,
        dim: int,
        self_attention: Attention,
        cross_attention: ValueSampling,
        gate: Gate | Sum,
        ffn: nn.Module,
        norm: MakeNorm = nn.LayerNorm,
    ) -> None:
        super().__init__()
        self.self_attention = self_attention
        self.cross_attention = cross_attention
        self.gate = gate
        self.ffn = ffn
        self.around_self = PostNorm(dim, 0.0, norm)
        self.around_ffn = PostNorm(dim, 0.0, norm)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        position: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        attn_mask: Bool[Tensor, "#B 1 Q Q"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after self-attention, cross-attention and FFN."""

        def attend_to_queries(x: Tensor) -> Tensor:
            positioned = with_pos_embed(x, position)
            return self.self_attention(positioned, positioned, x, attn_mask)

        content = self.around_self(content, attend_to_queries)
        sampled = self.cross_attention(with_pos_embed(content, position), cxcywh, memory)
        return self.around_ffn(self.gate(content, sampled), self.ffn)


class EdgeQuality(nn.Module):
    """How certain the edges of a box are, as a term of its class logits; it starts at zero.

    Its input are the `best` largest probabilities of each edge, and their mean.
    """

    def __init__(self, best: int, dim: int, layers: int, activation: Activation = F.relu) -> None:
        super().__init__()
        self.best = best
        widths = (4 * (best + 1), *[dim] * (layers - 1), 1)
        self.perceptron = Perceptron(*widths, activation=activation).starting_at_zero()

    def forward(self, edge_logits: Float[Tensor, "B Q 4 N"]) -> Float[Tensor, "B Q 1"]:
        """Return the quality of each box."""
        largest = edge_logits.softmax(-1).topk(self.best, dim=-1).values
        shape = torch.cat([largest, largest.mean(-1, keepdim=True)], dim=-1)
        return self.perceptron(shape.flatten(2))


class DistributionDecoder(nn.Module):
    """Decoder layers of which the first predicts boxes, and all move their edges.

    The edges of a box move by the mean of a distribution over bins, to whose logits every layer
    adds. `bins` is the number of bins, `reach` and `per_side` are explained at `edge_bins`. Layers
    have `edge_heads` heads of edges: one each, or one for all. The position of a query is encoded
    by what `position` makes for the width; of its first box if it `keeps_position`, else of the box
    that each layer starts from.
    """

    reach: Tensor
    per_side: Tensor

    def __init__(
        self,
        layers: Sequence[GatedDecoderLayer],
        quality: Sequence[EdgeQuality],
        dim: int,
        logits: int,
        bins: int,
        reach: float,
        per_side: float,
        *,
        edge_heads: int | None = None,
        activation: Activation = F.relu,
        position: Callable[[int], nn.Module] = BoxPosition,
        keeps_position: bool = False,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.layers = nn.ModuleList(layers)
        self.quality = nn.ModuleList(quality)
        self.class_heads = nn.ModuleList(ClassHead(dim, logits) for _ in layers)
        self.edge_heads = nn.ModuleList(
            Perceptron(dim, dim, dim, 4 * bins, activation=activation).starting_at_zero()
            for _ in range(edge_heads or len(layers))
        )
        self.start = BoxRefinementHead(dim, MARGIN, activation)
        self.position = position(dim)
        self.keeps_position = keeps_position
        self.register_buffer("reach", torch.tensor([reach]))
        self.register_buffer("per_side", torch.tensor([per_side]))

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> RefinedQueries:
        """Return every layer's logits and boxes, the first layer's boxes, and the edges."""
        attn_mask = query_mask.of_heads
        bins = edge_bins(self.bins, at_least_single(self.reach), at_least_single(self.per_side))
        logits: list[Tensor] = []
        boxes: list[Tensor] = []
        edges: list[Tensor] = []
        before: Tensor | float = 0.0  # the content after the layer before
        edge_logits: Tensor | None = None
        position = self._encoded(cxcywh)
        edge_heads = list(self.edge_heads) * (len(self.layers) // len(self.edge_heads))
        for layer, class_head, edge_head, quality in zip(
            self.layers, self.class_heads, edge_heads, self.quality, strict=True
        ):
            if edge_logits is not None and not self.keeps_position:
                position = self._encoded(cxcywh)
            content = layer(content, position, cxcywh, memory, attn_mask)
            class_logits = at_least_single(class_head(content))
            if edge_logits is None:
                start_logits, start_cxcywh = class_logits, self.start(content, cxcywh)
            steps = at_least_single(edge_head(content + before))
            steps = torch.unflatten(steps, -1, (4, self.bins))
            edge_logits = steps if edge_logits is None else edge_logits + steps
            moves = edge_logits.softmax(-1) @ bins
            refined = move_edges(start_cxcywh.detach(), moves, self.per_side)
            logits.append(class_logits + at_least_single(quality(edge_logits)))
            boxes.append(refined)
            edges.append(edge_logits)
            cxcywh, before = refined.detach(), content.detach()
        return RefinedQueries(
            torch.stack(logits),
            torch.stack(boxes),
            start_logits,
            start_cxcywh,
            EdgeDistributions(
                torch.stack(edges), start_cxcywh.detach(), bins, at_least_single(self.per_side)
            ),
        )

    def _encoded(self, cxcywh: Float[Tensor, "B Q 4"]) -> Float[Tensor, "B Q D"]:
        """Return the position encodings of boxes."""
        return self.position(cxcywh).clamp(-FARTHEST, FARTHEST)
