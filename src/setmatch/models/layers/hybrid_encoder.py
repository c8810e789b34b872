"""The hybrid encoder: self-attention on the coarsest level, convolutions to fuse the levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.small_cnn import ConvNorm
from setmatch.models.layers.cells import Cells, cells_of, hide
from setmatch.models.layers.position_encoding import SinePosition
from setmatch.models.layers.transformer_encoder import EncoderLayer
from setmatch.structures.batch import Batch


@dataclass(frozen=True)
class Memory:
    """The encoder's output: tokens of all levels, fine to coarse, each level in row-major order.

    `cells` are the cells of each level that lie on an image; None if there is no padding.
    """

    tokens: Float[Tensor, "B N D"]
    shapes: tuple[tuple[int, int], ...]  # height, width of each level
    cells: tuple[Cells, ...] | None = None

    @cached_property
    def valid(self) -> Bool[Tensor, "B N"] | None:
        """True for tokens of cells that lie on an image; None if there is no padding."""
        if self.cells is None:
            return None
        return torch.cat([level.valid.flatten(1) for level in self.cells], dim=1)


class HybridEncoder(nn.Module):
    """Fuse feature maps of several strides (arXiv 2304.08069, section 4.2).

    Self-attention runs on the coarsest level only, which has the fewest tokens. Then 3×3
    convolutions fuse the levels, first from coarse to fine, then from fine to coarse.
    """

    def __init__(self, channels: Sequence[int], dim: int, layers: list[EncoderLayer]) -> None:
        super().__init__()
        steps = len(channels) - 1
        self.project = nn.ModuleList(ConvNorm(width, dim, kernel=1) for width in channels)
        self.position = SinePosition(dim)
        self.layers = nn.ModuleList(layers)
        self.down = nn.ModuleList(ConvNorm(2 * dim, dim) for _ in range(steps))
        self.shrink = nn.ModuleList(ConvNorm(dim, dim, stride=2) for _ in range(steps))
        self.up = nn.ModuleList(ConvNorm(2 * dim, dim) for _ in range(steps))

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]], batch: Batch) -> Memory:
        """Return the fused tokens of every level."""
        cells = [cells_of(batch, level) for level in features]
        maps = [
            project(level, on_image)
            for project, level, on_image in zip(self.project, features, cells, strict=True)
        ]
        maps[-1] = hide(self._attend(maps[-1], cells[-1]), cells[-1])
        for index in reversed(range(len(maps) - 1)):
            coarser = F.interpolate(maps[index + 1], size=maps[index].shape[-2:])
            both = torch.cat([maps[index], hide(coarser, cells[index])], dim=1)
            maps[index] = F.relu(self.down[index](both, cells[index]))
        for index in range(len(maps) - 1):
            coarser_cells = cells[index + 1]
            finer = F.relu(self.shrink[index](maps[index], coarser_cells))
            both = torch.cat([finer, maps[index + 1]], dim=1)
            maps[index + 1] = F.relu(self.up[index](both, coarser_cells))
        return Memory(
            torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1),
            tuple((level.shape[-2], level.shape[-1]) for level in maps),
            tuple(level for level in cells if level is not None) or None,
        )

    def _attend(
        self, level: Float[Tensor, "B D h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        all_cells = torch.ones(1, *level.shape[-2:], dtype=torch.bool, device=level.device)
        position = self.position(all_cells if cells is None else cells.valid)
        attn_mask = None if cells is None else cells.valid.flatten(1)[:, None, None]
        tokens = level.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, position.flatten(2).transpose(1, 2), attn_mask)
        return tokens.transpose(1, 2).reshape(level.shape)
