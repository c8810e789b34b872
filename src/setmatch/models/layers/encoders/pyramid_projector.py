"""The projector of LW-DETR (arXiv 2406.03459, section 3.1): maps of one stride become a pyramid."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.backbones.hgnetv2 import ConvNormReLU
from setmatch.models.layers.cells import Cells, cells_of, doubled, halved, hide
from setmatch.models.layers.encoders.fusion_blocks import ConvNormSiLU
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.encoders.scale_projector import MapProjector
from setmatch.structures.batch import Batch

MOST_ENLARGED = 512  # channels of a map that are enlarged without making them fewer before


class SameSize(nn.Module):
    """A map as it is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B C h w"]:
        """Return the map."""
        return features

    @staticmethod
    def cells(cells: Cells | None) -> Cells | None:
        """Return the cells of the output."""
        return cells


class HalfSize(nn.Sequential):
    """A 3×3 convolution with stride 2, its norm and a ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(ConvNormReLU(channels, channels, 3, affine=False, stride=2))
        self.channels = channels

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B C H W"]:
        """Return the map at half the size, rounded up."""
        (conv,) = self
        return conv(features, halved(cells))

    @staticmethod
    def cells(cells: Cells | None) -> Cells | None:
        """Return the cells of the output."""
        return halved(cells)


class DoubleSize(nn.Sequential):
    """A transposed convolution with stride 2, to half of the channels.

    A map of more than 512 channels is narrowed before, by a convolution with norm and ReLU.
    """

    def __init__(self, channels: int) -> None:
        narrow: list[nn.Module] = []
        if channels > MOST_ENLARGED:
            narrow = [ConvNormReLU(channels, channels // 2, 1, affine=False)]
            channels //= 2
        super().__init__(*narrow, nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        self.channels = channels // 2

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return the map at twice the size."""
        *narrow, enlarge = self
        for conv in narrow:
            features = conv(features, cells)
        return hide(enlarge(features), doubled(cells))

    @staticmethod
    def cells(cells: Cells | None) -> Cells | None:
        """Return the cells of the output."""
        return doubled(cells)


Resize = type[HalfSize] | type[SameSize] | type[DoubleSize]
RESIZE: dict[float, Resize] = {0.5: HalfSize, 1.0: SameSize, 2.0: DoubleSize}  # by the new size


class PyramidLevel(MapProjector):
    """One level: all maps at `scale` times their size, then a CSP block with batch norms."""

    def __init__(
        self, channels: Sequence[int], dim: int, inner: int, blocks: int, scale: float
    ) -> None:
        resize: list[Any] = [RESIZE[scale](width) for width in channels]
        super().__init__([each.channels for each in resize], dim, inner, blocks, ConvNormSiLU)
        self.resize = nn.ModuleList(resize)
        self.cells = RESIZE[scale].cells

    def forward(
        self, features: Sequence[Float[Tensor, "B _ h w"]], cells: Cells | None
    ) -> Float[Tensor, "B D H W"]:
        """Return the map of the level; `cells` are those of the given maps."""
        maps = zip(self.resize, features, strict=True)
        resized = [resize(level, cells) for resize, level in maps]
        return self.project(resized, self.cells(cells))


class PyramidProjector(nn.Module):
    """A level for each of `scales`, which are sizes relative to the maps: 0.5, 1 or 2.

    In training, batch norms take their statistics from the images of a padded batch alone.
    """

    layers = ()  # no self-attention: that is in the backbone

    def __init__(
        self,
        channels: Sequence[int],
        dim: int,
        inner: int,
        blocks: int,
        scales: Sequence[float],
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            PyramidLevel(channels, dim, inner, blocks, scale) for scale in scales
        )

    def forward(self, features: Sequence[Float[Tensor, "B _ h w"]], batch: Batch) -> Memory:
        """Return the tokens of all levels."""
        cells = cells_of(batch, features[0])
        levels: list[Any] = list(self.levels)
        maps = [level(features, cells) for level in levels]
        return Memory.of(maps, [level.cells(cells) for level in levels])
