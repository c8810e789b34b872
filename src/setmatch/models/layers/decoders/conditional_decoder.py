"""Conditional cross-attention: a query says where to look apart from what to look for."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention.attention import FeedForward, PostNorm, ProjectedAttention
from setmatch.models.layers.attention.position_encoding import SineBoxPosition
from setmatch.models.layers.heads.heads import BoxRefinementHead, Perceptron
from setmatch.models.layers.queries.placed_queries import around
from setmatch.ops.precision import at_least_single

Inputs = tuple[Float[Tensor, "B Q E"], Float[Tensor, "B K E"], Float[Tensor, "B K D"]]
Placed = tuple[Float[Tensor, "L B Q D"], Float[Tensor, "L B Q 4"]]


def _linear(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.xavier_uniform_(layer.weight)
    return layer


class SelfInputs(nn.Module):
    """Queries, keys and values of self-attention: content and position have their own weights."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.query_position = _linear(dim), _linear(dim)
        self.key, self.key_position = _linear(dim), _linear(dim)
        self.value = _linear(dim)

    def forward(self, content: Float[Tensor, "B Q D"], position: Float[Tensor, "#B Q D"]) -> Inputs:
        """Return the projected queries, keys and values."""
        query = self.query(content) + self.query_position(position)
        return query, self.key(content) + self.key_position(position), self.value(content)


class CrossInputs(nn.Module):
    """Queries, keys and values of cross-attention: positions stand beside contents, not in them.

    Each head compares contents and positions apart, and adds up (arXiv 2108.06152, equation 4).
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.place = _linear(dim), _linear(dim)
        self.key, self.key_position = _linear(dim), _linear(dim)
        self.value = _linear(dim)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"],
        place: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
    ) -> Inputs:
        """Return the projected queries, keys and values, the first two twice as wide."""
        return self.beside(self.query(content), self.key(memory), place, memory, position)

    def beside(
        self,
        query: Float[Tensor, "B Q D"],
        key: Float[Tensor, "B N D"],
        place: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
    ) -> Inputs:
        """Return projected contents with positions beside them, and the values."""
        key_position = self.key_position(position).expand_as(key)
        return (
            self._each_head(query, self.place(place)),
            self._each_head(key, key_position),
            self.value(memory),
        )

    def _each_head(self, left: Tensor, right: Tensor) -> Tensor:
        both = [torch.unflatten(part, -1, (self.heads, -1)) for part in (left, right)]
        return torch.cat(both, dim=-1).flatten(2)


class FirstCrossInputs(CrossInputs):
    """The same with positions added to contents as well: in the first layer these are empty."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.query_position = _linear(dim)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"],
        place: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
    ) -> Inputs:
        """Return the projected queries, keys and values, the first two twice as wide."""
        query = self.query(content) + self.query_position(query_position)
        key = self.key(memory) + self.key_position(position)
        return self.beside(query, key, place, memory, position)


class ConditionalDecoderLayer(nn.Module):
    """Self-attention among queries, conditional cross-attention, a feed-forward network."""

    def __init__(
        self, dim: int, heads: int, cross_inputs: CrossInputs, ffn: FeedForward, dropout: float
    ) -> None:
        super().__init__()
        self.self_inputs = SelfInputs(dim)
        self.self_attention = ProjectedAttention(dim, heads, dropout)
        self.cross_inputs = cross_inputs
        self.cross_attention = ProjectedAttention(dim, heads, dropout)
        self.ffn = ffn
        self.around_self = PostNorm(dim, dropout)
        self.around_cross = PostNorm(dim, dropout)
        self.around_ffn = PostNorm(dim, dropout)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"],
        place: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after self-attention, cross-attention and FFN."""

        def attend_to_queries(x: Tensor) -> Tensor:
            return self.self_attention(*self.self_inputs(x, query_position))

        def attend_to_image(x: Tensor) -> Tensor:
            inputs = self.cross_inputs(x, query_position, place, memory, position.to(memory.dtype))
            return self.cross_attention(*inputs, attn_mask)

        content = self.around_self(content, attend_to_queries)
        content = self.around_cross(content, attend_to_image)
        return self.around_ffn(content, self.ffn)


class PlacedLayers(nn.Module):
    """Layers that look around a place of each query, by waves that its content scales.

    `margin` is how near to 0 and 1 coordinates come.
    """

    def __init__(self, layers: list[ConditionalDecoderLayer], dim: int, margin: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)
        self.scale = Perceptron(dim, dim, dim)
        self.waves = SineBoxPosition(dim // 2)
        self.box_step = BoxRefinementHead(dim, margin)


class ConditionalDecoder(PlacedLayers):
    """The place is a function of the query's position embedding, and boxes are relative to it.

    It stays from layer to layer (arXiv 2108.06152, section 3.2).
    """

    def __init__(self, layers: list[ConditionalDecoderLayer], dim: int, margin: float) -> None:
        super().__init__(layers, dim, margin)
        self.place = Perceptron(dim, dim, 2)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Placed:
        """Return the normalized content and the boxes of every layer."""
        start = around(at_least_single(self.place(query_position)).sigmoid())
        waves = self.waves(start)[..., : content.shape[-1]].to(memory.dtype)  # of y and x
        place = waves.expand(content.shape)
        decoded, boxes = [], []
        for number, layer in enumerate(self.layers):
            if number:
                place = waves * self.scale(content)
            content = layer(content, query_position, place, memory, position, attn_mask)
            decoded.append(self.norm(content))
            boxes.append(self.box_step(decoded[-1], start))
        return torch.stack(decoded), torch.stack(boxes)


class AnchorDecoder(PlacedLayers):
    """The place is a box, which each layer corrects: a query is a box and its content.

    The sides of a box stretch the waves in x and y (arXiv 2201.12329, section 4.3). A query's
    position encoding is a function of its box.
    """

    def __init__(self, layers: list[ConditionalDecoderLayer], dim: int, margin: float) -> None:
        super().__init__(layers, dim, margin)
        self.position = Perceptron(2 * dim, dim, dim)
        self.sides = Perceptron(dim, dim, 2)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Placed:
        """Return the normalized content and the boxes of every layer."""
        dim = content.shape[-1]
        start = cxcywh
        decoded, boxes = [], []
        for number, layer in enumerate(self.layers):
            waves = self.waves(cxcywh).to(memory.dtype)
            place = waves[..., :dim] if number == 0 else waves[..., :dim] * self.scale(content)
            width, height = (self.sides(content).sigmoid() / cxcywh[..., 2:]).unbind(-1)
            stretch = torch.stack([height, width], dim=-1).to(memory.dtype)
            place = (torch.unflatten(place, -1, (2, -1)) * stretch[..., None]).flatten(-2)
            content = layer(content, self.position(waves), place, memory, position, attn_mask)
            decoded.append(self.norm(content))
            boxes.append(self.box_step(decoded[-1], start))
            if layer is not self.layers[-1]:
                start = self.box_step(content, cxcywh)
                cxcywh = start.detach()
        return torch.stack(decoded), torch.stack(boxes)
