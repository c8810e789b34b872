"""The vision transformer of LW-DETR (arXiv 2406.03459, section 3.1): windows, and no class token.

Source of the transformer: ViTDet (arXiv 2203.16527), trained as CAE v2 (arXiv 2211.09799).
"""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.backbones.position_resampling import interpolating_weights
from setmatch.models.backbones.windowed_transformer import (
    SPREAD,
    ScaledBlock,
    WindowedTransformer,
)
from setmatch.models.layers.attention.attention import Attention

SCALE = 0.1  # of what blocks add, before training


class AttentionWithoutKeyBias(Attention):
    """Attention whose keys have no bias, which would move all logits of a query alike."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads, dropout=0.0)
        self.key = nn.Linear(dim, dim, bias=False)


class WindowedViT(WindowedTransformer):
    """A vision transformer in windows; its maps are what blocks return, not normalized.

    `windowed` are the numbers of the blocks that attend within their part, from 1. The branches of
    blocks are left out in training with a probability that grows from 0 to `drop_path`, for each
    part of the image alone.
    """

    resampling = staticmethod(interpolating_weights)

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        patch: int,
        windows: int,
        grid: int,
        windowed: Collection[int],
        outputs: Sequence[int],
        drop_path: float = 0.0,
    ) -> None:
        whole = [block for block in range(outputs[-1]) if block + 1 not in windowed]
        super().__init__(dim, patch, windows, grid, outputs, whole)
        self.position = nn.Parameter(torch.zeros(1, grid**2, dim))
        self.blocks = nn.ModuleList(
            ScaledBlock(
                dim,
                AttentionWithoutKeyBias(dim, heads),
                ffn_dim,
                SCALE,
                drop,
                parts=windows**2 if block in whole else 1,
            )
            for block, drop in enumerate(
                torch.linspace(0, drop_path, outputs[-1], device="cpu").tolist()
            )
        )
        self.initialize_weights()
        nn.init.trunc_normal_(self.position, std=SPREAD)

    def undecayed(self) -> set[int]:
        """Return biases and parameters of norms, positions, and scales of what blocks add."""
        scales = [
            scale for block in self.blocks for scale in (block.scale_attention, block.scale_ffn)
        ]
        return super().undecayed() | {id(each) for each in (self.position, *scales)}

    def tokens_of(self, patches: Float[Tensor, "B h w D"]) -> Float[Tensor, "P n D"]:
        """Return the patches of every part, with their positions."""
        height, width = patches.shape[1:3]
        return self.cut(patches + self.positions(self.position, (height, width)))

    def patches_of(self, tokens: Float[Tensor, "P n D"]) -> Float[Tensor, "P m D"]:
        """Return the tokens, all of which are patches."""
        return tokens
