"""The projector of RF-DETR: maps of one stride become the memory of a decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.cells import Cells, cells_of
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.structures.batch import Batch

MakeConv = Callable[[int, int, int], nn.Module]  # (channels, out, kernel), called with the cells


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of every cell."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return the normalized features."""
        normed = F.layer_norm(
            features.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps
        )
        return normed.permute(0, 3, 1, 2)


class ConvChannelNorm(nn.Sequential):
    """A convolution, a norm over channels and a SiLU."""

    def __init__(self, channels: int, out: int, kernel: int, eps: float) -> None:
        super().__init__(
            nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False),
            ChannelNorm(out, eps=eps),
        )

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D h w"]:
        """Return silu(norm(conv(x))), of padding as of everything else."""
        conv, norm = self
        return F.silu(norm(conv(features)))


class MapProjector(nn.Module):
    """One CSP block over all maps, concatenated (arXiv 2406.03459, section 3.1; C2f of YOLOv8).

    Half of the features passes through blocks of two 3×3 convolutions with `inner` channels; what
    goes in and what every block returns is merged to `dim` channels. `conv` makes a convolution
    with its norm.
    """

    def __init__(
        self, channels: Sequence[int], dim: int, inner: int, blocks: int, conv: MakeConv
    ) -> None:
        super().__init__()
        self.split = conv(sum(channels), 2 * inner, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(inner, inner, 3), conv(inner, inner, 3)) for _ in range(blocks)
        )
        self.merge = conv((2 + blocks) * inner, dim, 1)
        self.norm = ChannelNorm(dim, eps=1e-6)

    def project(
        self, features: Sequence[Float[Tensor, "B _ h w"]], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return one map for all of them."""
        parts = list(self.split(torch.cat(list(features), dim=1), cells).chunk(2, dim=1))
        blocks: list[Any] = list(self.blocks)
        for block in blocks:
            inner = parts[-1]
            for conv in block:
                inner = conv(inner, cells)
            parts.append(inner)
        return self.norm(self.merge(torch.cat(parts, dim=1), cells))


class ScaleProjector(MapProjector):
    """The projector of RF-DETR: one level, of the maps as they are.

    `eps` is that of the norms over channels inside the block.
    """

    layers = ()  # no self-attention: that is in the backbone

    def __init__(
        self, channels: Sequence[int], dim: int, inner: int, blocks: int, eps: float
    ) -> None:
        def conv(channels: int, out: int, kernel: int) -> ConvChannelNorm:
            return ConvChannelNorm(channels, out, kernel, eps)

        super().__init__(channels, dim, inner, blocks, conv)

    def forward(self, features: Sequence[Float[Tensor, "B _ h w"]], batch: Batch) -> Memory:
        """Return the tokens of one level."""
        level = self.project(features, None)
        return Memory.of([level], [cells_of(batch, level)])
