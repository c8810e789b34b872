"""The hybrid encoder: self-attention on the coarsest level, convolutions to fuse the levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.small_cnn import ConvNorm
from setmatch.models.layers.position_encoding import SinePosition
from setmatch.models.layers.transformer_encoder import EncoderLayer
from setmatch.structures.batch import Batch


@dataclass(frozen=True)
class Memory:
    """The encoder's output: tokens of all levels, fine to coarse, each level in row-major order.

    Boxes inside the model are fractions of the padded image, of which the image itself covers
    `valid_ratio` (width, height). `valid` is None if there is no padding.
    """

    tokens: Float[Tensor, "B N D"]
    valid: Bool[Tensor, "B N"] | None
    shapes: tuple[tuple[int, int], ...]  # height, width of each level
    valid_ratio: Float[Tensor, "B 2"]


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
        maps = [project(level) for project, level in zip(self.project, features, strict=True)]
        cells = [_valid_cells(batch, level) for level in maps]
        maps[-1] = self._attend(maps[-1], cells[-1])
        for index in reversed(range(len(maps) - 1)):
            coarser = F.interpolate(maps[index + 1], size=maps[index].shape[-2:])
            maps[index] = F.relu(self.down[index](torch.cat([maps[index], coarser], dim=1)))
        for index in range(len(maps) - 1):
            finer = F.relu(self.shrink[index](maps[index]))
            maps[index + 1] = F.relu(self.up[index](torch.cat([finer, maps[index + 1]], dim=1)))
        flat = [cell.flatten(1) for cell in cells if cell is not None]
        return Memory(
            torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1),
            torch.cat(flat, dim=1) if flat else None,
            tuple((level.shape[-2], level.shape[-1]) for level in maps),
            valid_ratio_of(batch),
        )

    def _attend(
        self, level: Float[Tensor, "B D h w"], cells: Bool[Tensor, "B h w"] | None
    ) -> Float[Tensor, "B D h w"]:
        all_cells = torch.ones(1, *level.shape[-2:], dtype=torch.bool, device=level.device)
        position = self.position(all_cells if cells is None else cells)
        attn_mask = None if cells is None else cells.flatten(1)[:, None, None]
        tokens = level.flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens, position.flatten(2).transpose(1, 2), attn_mask)
        return tokens.transpose(1, 2).reshape(level.shape)


def _valid_cells(batch: Batch, level: Float[Tensor, "B D h w"]) -> Bool[Tensor, "B h w"] | None:
    """Return True for cells that overlap the image; None if there is no padding."""
    if not batch.padded:
        return None
    cells = F.adaptive_max_pool2d(batch.valid[:, None].float(), level.shape[-2:])
    return cells[:, 0] > 0


def valid_ratio_of(batch: Batch) -> Float[Tensor, "B 2"]:
    """Return the fractions of the padded width and height that each image covers."""
    covered = batch.valid.float()
    return torch.stack([covered[:, 0].mean(1), covered[:, :, 0].mean(1)], dim=1)
