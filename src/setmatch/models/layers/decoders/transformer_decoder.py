"""The transformer decoder: queries attend to each other and to the image."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention.attention import (
    Attention,
    FeedForward,
    Residual,
    with_pos_embed,
)


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
        positioned_memory: Float[Tensor, "B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B Q D"]:
        """Return the content of every query after self-attention, cross-attention and FFN."""

        def attend_to_queries(x: Tensor) -> Tensor:
            positioned = with_pos_embed(x, query_position)
            return self.self_attention(positioned, positioned, x)

        def attend_to_image(x: Tensor) -> Tensor:
            return self.cross_attention(
                with_pos_embed(x, query_position), positioned_memory, memory, attn_mask
            )

        content = self.around_self(content, attend_to_queries)
        content = self.around_cross(content, attend_to_image)
        return self.around_ffn(content, self.ffn)


class Decoder(nn.Module):
    """A stack of decoder layers with one shared output norm."""

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
        """Return the normalized output of every layer, the last one last."""
        positioned_memory = with_pos_embed(memory, position)
        outputs = []
        for layer in self.layers:
            content = layer(content, query_position, memory, positioned_memory, attn_mask)
            outputs.append(self.norm(content))
        return torch.stack(outputs)


class LastLayerDecoder(Decoder):
    """A decoder that returns its last layer only: the paper's demo has no auxiliary losses."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        query_position: Float[Tensor, "#B Q D"] | None,
        memory: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "1 B Q D"]:
        """Return the normalized output of the last layer."""
        return super().forward(content, query_position, memory, position, attn_mask)[-1:]
