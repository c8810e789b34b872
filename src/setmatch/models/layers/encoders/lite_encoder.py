"""An encoder without self-attention: two levels from the map of a single stride."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.layers.cells import Cells, cells_of, halved, hide
from setmatch.models.layers.encoders.fusion_blocks import ConvNormSiLU, ELANBlock
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.structures.batch import Batch


class PoolConv(nn.Module):
    """Means of 3×3 cells at half the size, then a 1×1 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = ConvNormSiLU(dim, dim, kernel=1)

    def forward(
        self, features: Float[Tensor, "B D h w"], coarser_cells: Cells | None
    ) -> Float[Tensor, "B D H W"]:
        """Return the features at half the size; cells beyond the border count as zeros."""
        pooled = F.avg_pool2d(features, kernel_size=3, stride=2, padding=1)
        return self.conv(pooled, coarser_cells)


class GlobalFusion(nn.Module):
    """The mean of the whole image is added to every cell, before a 1×1 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = ConvNormSiLU(dim, dim, kernel=1)

    def forward(
        self, features: Float[Tensor, "B D h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the features; those of padding, which are zeros, do not count."""
        mean = features.mean((2, 3), keepdim=True)
        if cells is not None:
            mean = mean / cells.ratio(features.dtype).prod(-1)[:, None, None, None]
        return self.conv(features + mean, cells)


class LiteEncoder(nn.Module):
    """Two levels, of the backbone's stride and of twice that (arXiv 2509.20787, section 3.2).

    Blocks fuse them from coarse to fine, then from fine to coarse, by addition. `to_memory` brings
    them to the width of the decoder.
    """

    layers = ()  # no self-attention

    def __init__(
        self,
        channels: int,
        dim: int,
        down: ELANBlock,
        up: ELANBlock,
        to_memory: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList([ConvNorm(channels, dim, kernel=1)])
        self.shrink = nn.ModuleList([PoolConv(dim), PoolConv(dim)])
        self.spread = GlobalFusion(dim)
        self.down = nn.ModuleList([down])
        self.up = nn.ModuleList([up])
        self.to_memory = nn.ModuleList(to_memory)

    def forward(self, features: Sequence[Float[Tensor, "B _ h w"]], batch: Batch) -> Memory:
        """Return the fused tokens of both levels."""
        (level,) = features
        cells = cells_of(batch, level)
        coarser_cells = halved(cells)
        (project,), (down,), (up,) = self.project, self.down, self.up
        first_shrink, second_shrink = self.shrink
        fine = project(level, cells)
        coarse = self.spread(first_shrink(fine, coarser_cells), coarser_cells)
        enlarged = F.interpolate(coarse, size=fine.shape[-2:])
        fine = down(fine + hide(enlarged, cells), cells)
        coarse = up(coarse + second_shrink(fine, coarser_cells), coarser_cells)
        maps, both_cells = [fine, coarse], [cells, coarser_cells]
        for index, project in enumerate(self.to_memory):
            maps[index] = project(maps[index], both_cells[index])
        return Memory.of(maps, both_cells)
