"""The encoder: every token of the image looks at every other."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention import Attention, FeedForward, Residual, with_pos_embed


class EncoderLayer(nn.Module):
    """Self-attention among tokens, then a feed-forward network."""

    def __init__(
        self, dim: int, heads: int, ffn_dim: int, dropout: float, residual: Residual
    ) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.ffn = FeedForward(dim, ffn_dim, dropout)
        self.around_attention = residual(dim, dropout)
        self.around_ffn = residual(dim, dropout)

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return tokens that know of each other; position goes to queries and keys, not values."""

        def look_around(x: Tensor) -> Tensor:
            at = with_pos_embed(x, position)
            return self.self_attention(at, at, x, attn_mask)

        return self.around_ffn(self.around_attention(tokens, look_around), self.ffn)


class Encoder(nn.Module):
    """A stack of encoder layers; none at all is allowed (an ablation of the paper)."""

    def __init__(self, layers: list[EncoderLayer], final_norm: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = final_norm

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return the memory that the decoder reads; `attn_mask` None means every token."""
        for layer in self.layers:
            tokens = layer(tokens, position, attn_mask)
        return self.norm(tokens)


class EncoderWithoutPositions(Encoder):
    """An encoder whose tokens compare contents alone; the decoder still gets their positions."""

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return the memory that the decoder reads, made without positions."""
        return super().forward(tokens, None, attn_mask)
