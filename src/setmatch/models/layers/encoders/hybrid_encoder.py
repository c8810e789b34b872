"""The hybrid encoder: self-attention on the coarsest level, convolutions to fuse the levels."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.layers.attention.position_encoding import SinePosition
from setmatch.models.layers.cells import Cells, cells_of, halved, hide
from setmatch.models.layers.encoders.fusion_blocks import FinerFusion
from setmatch.models.layers.encoders.transformer_encoder import EncoderLayer
from setmatch.ops.precision import at_least_single
from setmatch.structures.batch import Batch


@dataclass(frozen=True)
class Memory:
    """The encoder's output: tokens of all levels, fine to coarse, each level in row-major order.

    `cells` are the cells of each level that lie on an image; None if there is no padding.
    """

    tokens: Float[Tensor, "B N D"]
    shapes: tuple[tuple[int, int], ...]  # height, width of each level
    cells: tuple[Cells, ...] | None = None

    @classmethod
    def of(
        cls, maps: Sequence[Float[Tensor, "B D _ _"]], cells: Sequence[Cells | None]
    ) -> "Memory":
        """Return the tokens of feature maps, with the cells of each that lie on an image."""
        return cls(
            torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1),
            tuple((level.shape[-2], level.shape[-1]) for level in maps),
            tuple(level for level in cells if level is not None) or None,
        )

    @cached_property
    def valid(self) -> Bool[Tensor, "B N"] | None:
        """True for tokens of cells that lie on an image; None if there is no padding."""
        if self.cells is None:
            return None
        return torch.cat([level.valid.flatten(1) for level in self.cells], dim=1)

    @cached_property
    def values(self) -> Float[Tensor, "B N D"]:
        """The tokens as `on_images` returns them, made once for all layers that sample them.

        On a GPU they lie channel by channel in memory, in which order sampling reads them there.
        """
        value = self.on_images(self.tokens)
        if value.device.type == "cpu":
            return value
        return value.transpose(1, 2).contiguous().transpose(1, 2)

    def on_images(self, value: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return values in float32 or higher precision, 0 for tokens beyond the images."""
        value = at_least_single(value)
        return value if self.valid is None else value.masked_fill(~self.valid[..., None], 0.0)

    def level_sides(self, like: Tensor) -> Float[Tensor, "#B L 2"]:
        """Return the width and height of each image in cells of each level."""
        if self.cells is not None:
            return torch.stack([level.valid_wh for level in self.cells], dim=1).to(like.dtype)
        # Scalars one by one: in an exported model, sizes are not known when it is written.
        sides = [side for height, width in self.shapes for side in (width, height)]
        return torch.stack([like.new_full((), side) for side in sides]).view(1, -1, 2)


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
        self.down = nn.ModuleList(FinerFusion(dim) for _ in range(steps))
        self.shrink = nn.ModuleList(ConvNorm(dim, dim, stride=2) for _ in range(steps))
        self.up = nn.ModuleList(ConvNorm(2 * dim, dim) for _ in range(steps))

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]], batch: Batch) -> Memory:
        """Return the fused tokens of every level."""
        cells = [cells_of(batch, level) for level in features]
        maps = [
            project(level, on_image)
            for project, level, on_image in zip(self.project, features, cells, strict=True)
        ]
        maps[-1] = attend_within(maps[-1], cells[-1], self.layers, self.position)
        for index in reversed(range(len(maps) - 1)):
            fused = self.down[index]((maps[index], maps[index + 1]), cells[index])
            maps[index] = F.relu(fused, inplace=True)
        for index in range(len(maps) - 1):
            coarser_cells = cells[index + 1]
            finer = F.relu(self.shrink[index](maps[index], coarser_cells), inplace=True)
            both = torch.cat([finer, maps[index + 1]], dim=1)
            maps[index + 1] = F.relu(self.up[index](both, coarser_cells), inplace=True)
        return Memory.of(maps, cells)


def attend_within(
    level: Float[Tensor, "B D h w"],
    cells: Cells | None,
    layers: Iterable[nn.Module],
    position: nn.Module,
) -> Float[Tensor, "B D h w"]:
    """Return a feature map after self-attention among its cells, with zeros on padding."""
    all_cells = torch.ones(1, *level.shape[-2:], dtype=torch.bool, device=level.device)
    encoding = position(all_cells if cells is None else cells.valid).flatten(2).transpose(1, 2)
    attn_mask = None if cells is None else cells.valid.flatten(1)[:, None, None]
    tokens = level.flatten(2).transpose(1, 2)
    for layer in layers:
        tokens = layer(tokens, encoding, attn_mask)
    return hide(tokens.transpose(1, 2).reshape(level.shape), cells)


Fuse = Callable[[Tensor, Tensor], Tensor]


def concatenated(
    one: Float[Tensor, "B D h w"], other: Float[Tensor, "B D h w"]
) -> Float[Tensor, "B E h w"]:
    """Return the channels of both maps."""
    return torch.cat([one, other], dim=1)


def added(
    one: Float[Tensor, "B D h w"], other: Float[Tensor, "B D h w"]
) -> Float[Tensor, "B D h w"]:
    """Return the sum of both maps."""
    return one + other


class PyramidEncoder(nn.Module):
    """The hybrid encoder as published (arXiv 2304.08069, section 4.2): its parts are given.

    Steps between levels are numbered in the order in which they run: `lateral` and `down` from
    coarse to fine, `shrink` and `up` from fine to coarse. `project` brings the backbone's maps to
    the width of the encoder, `to_memory` the encoder's to that of the decoder. More of these than
    there are maps make further levels, each by halving the coarsest map. `fuse` makes one map of
    two of neighboring levels.
    """

    def __init__(
        self,
        project: Sequence[nn.Module],
        position: nn.Module,
        layers: Sequence[EncoderLayer],
        lateral: Sequence[nn.Module],
        down: Sequence[nn.Module],
        shrink: Sequence[nn.Module],
        up: Sequence[nn.Module],
        to_memory: Sequence[nn.Module] = (),
        fuse: Fuse = concatenated,
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(project)
        self.position = position
        self.layers = nn.ModuleList(layers)
        self.lateral = nn.ModuleList(lateral)
        self.down = nn.ModuleList(down)
        self.shrink = nn.ModuleList(shrink)
        self.up = nn.ModuleList(up)
        self.to_memory = nn.ModuleList(to_memory)
        self.fuse = fuse

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]], batch: Batch) -> Memory:
        """Return the fused tokens of every level."""
        cells = [cells_of(batch, level) for level in features]
        maps = [
            project(level, on_image)
            for project, level, on_image in zip(self.project, features, cells, strict=True)
        ]
        maps[-1] = attend_within(maps[-1], cells[-1], self.layers, self.position)
        finer = range(len(maps) - 2, -1, -1)
        for index, lateral, down in zip(finer, self.lateral, self.down, strict=True):
            maps[index + 1] = lateral(maps[index + 1], cells[index + 1])
            coarser = F.interpolate(maps[index + 1], size=maps[index].shape[-2:])
            both = self.fuse(hide(coarser, cells[index]), maps[index])
            maps[index] = down(both, cells[index])
        for index, (shrink, up) in enumerate(zip(self.shrink, self.up, strict=True)):
            finer_map = shrink(maps[index], cells[index], cells[index + 1])
            both = self.fuse(finer_map, maps[index + 1])
            maps[index + 1] = up(both, cells[index + 1])
        coarsest, half = maps[-1], halved(cells[-1])
        for index, project in enumerate(self.to_memory):
            if index < len(self.project):
                maps[index] = project(maps[index], cells[index])
            else:
                maps.append(project(coarsest, half))
                cells.append(half)
        return Memory.of(maps, cells)
