"""DINOv2 (arXiv 2304.07193) in windows, each with a class token of its own."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.backbones.position_resampling import antialiased_weights
from setmatch.models.backbones.windowed_transformer import (
    EPS,
    SPREAD,
    ScaledBlock,
    WindowedTransformer,
)
from setmatch.models.layers.attention.attention import Attention


class WindowedDINOv2(WindowedTransformer):
    """DINOv2 in windows; its maps are normalized.

    A block that follows one of `outputs` attends to the whole image.
    """

    resampling = staticmethod(antialiased_weights)

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        patch: int,
        windows: int,
        grid: int,
        outputs: Sequence[int],
    ) -> None:
        super().__init__(dim, patch, windows, grid, outputs, whole=outputs)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.blocks = nn.ModuleList(
            ScaledBlock(dim, Attention(dim, heads, dropout=0.0), ffn_dim, scale=1.0)
            for _ in range(outputs[-1])
        )
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.initialize_weights()
        nn.init.trunc_normal_(self.class_token, std=SPREAD)
        nn.init.trunc_normal_(self.position, std=SPREAD)

    def tokens_of(self, patches: Float[Tensor, "B h w D"]) -> Float[Tensor, "P n D"]:
        """Return the class token and the patches of every part, with their positions."""
        height, width = patches.shape[1:3]
        first, others = self.position[:, :1], self.position[:, 1:]
        tokens = self.cut(patches + self.positions(others, (height, width)))
        class_tokens = (self.class_token + first).expand(tokens.shape[0], -1, -1)
        return torch.cat([class_tokens, tokens], dim=1)

    def patches_of(self, tokens: Float[Tensor, "P n D"]) -> Float[Tensor, "P m D"]:
        """Return the normalized patches of every part."""
        return self.norm(tokens)[:, 1:]
