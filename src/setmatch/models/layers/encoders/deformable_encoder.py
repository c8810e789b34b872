"""The encoder of Deformable DETR: every cell of every level samples points on all levels."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention.attention import FeedForward, PostNorm
from setmatch.models.layers.attention.value_sampling import CellSampling
from setmatch.models.layers.cells import cells_of
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.queries.queries import anchor_boxes
from setmatch.structures.batch import Batch

NORM_GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """Torch's, also for a single value in each group, which torch refuses: it becomes the bias."""

    def forward(self, features: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """Return the normalized features."""
        return torch.group_norm(features, self.num_groups, self.weight, self.bias, self.eps)


class GroupNormConv(nn.Sequential):
    """A convolution that halves its map or leaves it, and a group norm."""

    def __init__(self, channels: int, dim: int, kernel: int = 1, stride: int = 1) -> None:
        conv = nn.Conv2d(channels, dim, kernel, stride, padding=kernel // 2)
        nn.init.xavier_uniform_(conv.weight)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        super().__init__(conv, GroupNorm(NORM_GROUPS, dim))


class DeformableEncoderLayer(nn.Module):
    """Deformable attention among tokens, then a feed-forward network."""

    def __init__(self, dim: int, sampling: CellSampling, ffn: FeedForward, dropout: float) -> None:
        super().__init__()
        self.sampling = sampling
        self.ffn = ffn
        self.around_sampling = PostNorm(dim, dropout)
        self.around_ffn = PostNorm(dim, dropout)

    def forward(
        self,
        memory: Memory,
        position: Float[Tensor, "#B N D"],
        centers: Float[Tensor, "B N 4"],
    ) -> Memory:
        """Return the memory with new tokens; each samples around its center."""

        def sample(x: Tensor) -> Tensor:
            return self.sampling(x + position, centers, replace(memory, tokens=x))

        tokens = self.around_ffn(self.around_sampling(memory.tokens, sample), self.ffn)
        return replace(memory, tokens=tokens)


class DeformableEncoder(nn.Module):
    """Deformable attention among the tokens of all levels (arXiv 2010.04159, section 4.1).

    `project` brings the backbone's maps to one width. More of these than there are maps make
    further levels: the first from the coarsest map, each other from the level before. A token's
    position is that of its cell, plus a learned one of its level.
    """

    layers = ()  # whose attention would be a map of all cells; here each token samples a few points

    def __init__(
        self,
        project: Sequence[nn.Module],
        position: nn.Module,
        sampling_layers: Sequence[DeformableEncoderLayer],
        dim: int,
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(project)
        self.position = position
        self.level = nn.Parameter(torch.randn(len(project), dim))
        self.sampling_layers = nn.ModuleList(sampling_layers)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]], batch: Batch) -> Memory:
        """Return the encoded tokens of every level."""
        maps = [project(level) for project, level in zip(self.project, features, strict=False)]
        coarser = features[-1]
        for project in list(self.project)[len(features) :]:
            coarser = project(coarser)
            maps.append(coarser)
        cells = [cells_of(batch, level) for level in maps]
        memory = Memory.of(maps, cells)
        positions = [
            self._positions(level, None if on_image is None else on_image.valid) + of_level
            for level, on_image, of_level in zip(maps, cells, self.level, strict=True)
        ]
        position = torch.cat(positions, dim=1)
        centers = anchor_boxes(memory, 1.0).expand(memory.tokens.shape[0], -1, -1)
        for layer in self.sampling_layers:
            memory = layer(memory, position, centers)
        return memory

    def _positions(
        self, level: Float[Tensor, "B D h w"], valid: Tensor | None
    ) -> Float[Tensor, "#B n D"]:
        every = torch.ones(1, *level.shape[-2:], dtype=torch.bool, device=level.device)
        encoding = self.position(every if valid is None else valid)
        return encoding.flatten(2).transpose(1, 2).to(level.dtype)
