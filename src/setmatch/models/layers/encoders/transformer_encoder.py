"""The transformer encoder: self-attention among all tokens of the image."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.models.layers.attention.attention import (
    Attention,
    FeedForward,
    Residual,
    with_pos_embed,
)
from setmatch.models.layers.heads.heads import Perceptron


class EncoderLayer(nn.Module):
    """Self-attention among tokens, then a feed-forward network."""

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        dropout: float,
        residual: Residual,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.ffn = FeedForward(dim, ffn_dim, dropout, activation)
        self.around_attention = residual(dim, dropout)
        self.around_ffn = residual(dim, dropout)

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return the tokens; positions are added to queries and keys, not to values."""

        def attend(x: Tensor) -> Tensor:
            positioned = with_pos_embed(x, position)
            return self.self_attention(positioned, positioned, x, attn_mask)

        return self.around_ffn(self.around_attention(tokens, attend), self.ffn)


class Encoder(nn.Module):
    """A stack of encoder layers, possibly empty (an ablation of the paper)."""

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
        """Return the memory for the decoder; `attn_mask` None means no padding."""
        for layer in self.layers:
            tokens = layer(tokens, position, attn_mask)
        return self.norm(tokens)


class EncoderWithoutPositions(Encoder):
    """An encoder that ignores positions (an ablation); the decoder still gets them."""

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return the memory for the decoder, computed without positions."""
        return super().forward(tokens, None, attn_mask)


class ScaledPositionEncoder(Encoder):
    """An encoder whose tokens scale their positions in every layer (arXiv 2201.12329)."""

    def __init__(self, layers: list[EncoderLayer], dim: int) -> None:
        super().__init__(layers, nn.Identity())
        self.scale = Perceptron(dim, dim, dim)

    def forward(
        self,
        tokens: Float[Tensor, "B N D"],
        position: Float[Tensor, "#B N D"] | None,
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B N D"]:
        """Return the memory for the decoder; `attn_mask` None means no padding."""
        assert position is not None, "there are positions to scale"
        for layer in self.layers:
            tokens = layer(tokens, position * self.scale(tokens), attn_mask)
        return tokens
