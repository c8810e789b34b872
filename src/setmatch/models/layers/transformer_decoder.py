"""The decoder: queries look at each other, so as not to repeat, and at the image."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention import Attention, FeedForward, Residual, with_pos_embed


class DecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to the memory, a feed-forward network."""

    def __init__(
        self, dim: int, heads: int, ffn_dim: int, dropout: float, residual: Residual
    ) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.cross_attention = Attention(dim, heads, dropout)
        self.ffn = FeedForward(dim, ffn_dim, dropout)
        self.around_self = residual(dim, dropout)
        self.around_cross = residual(dim, dropout)
        self.around_ffn = residual(dim, dropout)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"] | None,
        memory: Float[Tensor, "B N D"],
        located_memory: Float[Tensor, "B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after one look at the others and at the image."""

        def look_at_others(x: Tensor) -> Tensor:
            at = with_pos_embed(x, query_position)
            return self.self_attention(at, at, x)

        def look_at_image(x: Tensor) -> Tensor:
            return self.cross_attention(
                with_pos_embed(x, query_position), located_memory, memory, attn_mask
            )

        content = self.around_self(content, look_at_others)
        content = self.around_cross(content, look_at_image)
        return self.around_ffn(content, self.ffn)


class Decoder(nn.Module):
    """A stack of decoder layers, each answering through one shared norm."""

    def __init__(self, layers: list[DecoderLayer], dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"] | None,
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "L B Q D"]:
        """Return what every layer made of the queries, normed; the last is the answer."""
        located_memory = with_pos_embed(memory, position)
        answers = []
        for layer in self.layers:
            content = layer(content, query_position, memory, located_memory, attn_mask)
            answers.append(self.norm(content))
        return torch.stack(answers)


class LastLayerDecoder(Decoder):
    """A decoder of which only the last layer answers: the 50-line model trains no others."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"] | None,
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "1 B Q D"]:
        """Return what the last layer made of the queries, normed."""
        return super().forward(content, query_position, memory, position, attn_mask)[-1:]
