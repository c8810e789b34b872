"""ResNet-vd: a stem of three small convolutions, and shortcuts that halve by a mean."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.backbones.frozen_norms import BackboneWithNorms
from setmatch.models.layers.cells import Cells, halved, hide


class ResNetVD(BackboneWithNorms):
    """A stem of stride 4 and stages; returns the feature maps of the last `levels` stages.

    `stage_out` are the channels of the stages, `stage_blocks` the numbers of their blocks. Source:
    ResNet-D of arXiv 1812.01187, section 4.1, as the backbone of arXiv 2304.08069.
    """

    hides_padding = True

    def __init__(
        self,
        stem: int,
        stage_out: Sequence[int],
        stage_blocks: Sequence[int],
        levels: int,
        bottleneck: bool,
        frozen_norms: bool = False,
    ) -> None:
        super().__init__()
        half = stem // 2
        self.stem = nn.ModuleList(
            [
                ConvNorm(3, half, stride=2),
                ConvNorm(half, half),
                ConvNorm(half, stem),
            ]
        )
        block = bottleneck_block if bottleneck else basic_block
        self.stages = nn.ModuleList()
        channels = stem
        for index, (out, blocks) in enumerate(zip(stage_out, stage_blocks, strict=True)):
            first = block(channels, out, stride=1 if index == 0 else 2, is_first=True)
            others = [block(out, out, stride=1, is_first=False) for _ in range(blocks - 1)]
            self.stages.append(ShortcutStage(first, *others))
            channels = out
        self.channels = tuple(stage_out[-levels:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if frozen_norms:
            self.freeze_norms()

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps, each at half the size of the one before it.

        `cells` are the pixels of the images in a padded batch, whose padding is hidden.
        """
        features = pixels.contiguous(memory_format=torch.channels_last)
        half = halved(cells)
        for conv in self.stem:
            features = F.relu(conv(features, half), inplace=True)
        cells = halved(half)
        features = hide(F.max_pool2d(features, kernel_size=3, stride=2, padding=1), cells)
        levels = []
        for stage in self.stages:
            features, cells = stage(features, cells)
            levels.append(features)
        return tuple(levels[-len(self.channels) :])


def basic_block(channels: int, out: int, stride: int, is_first: bool) -> "ShortcutBlock":
    """Return two 3×3 convolutions; the first block of a stage projects its shortcut."""
    layers = [ConvNorm(channels, out, stride=stride), ConvNorm(out, out)]
    return ShortcutBlock(layers, ConvNorm(channels, out, kernel=1) if is_first else None, stride)


def bottleneck_block(channels: int, out: int, stride: int, is_first: bool) -> "ShortcutBlock":
    """Return a 3×3 convolution of a quarter of the channels between two 1×1 convolutions."""
    inner = out // 4
    layers = [
        ConvNorm(channels, inner, kernel=1),
        ConvNorm(inner, inner, stride=stride),
        ConvNorm(inner, out, kernel=1),
    ]
    projects = is_first and (stride != 1 or channels != out)
    return ShortcutBlock(layers, ConvNorm(channels, out, kernel=1) if projects else None, stride)


class ShortcutStage(nn.Sequential):
    """Blocks in a row."""

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B D H W"], Cells | None]:
        """Return the features after the last block, and their cells."""
        for block in self:
            features, cells = block(features, cells)
        return features, cells


class ShortcutBlock(nn.Module):
    """Convolutions with ReLUs between them, and a shortcut that is halved before `around`."""

    def __init__(self, layers: Sequence[ConvNorm], around: ConvNorm | None, stride: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.strides = [layer.stride for layer in layers]
        self.pool = None if stride == 1 else MeanPool()
        self.around = around

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> tuple[Float[Tensor, "B D H W"], Cells | None]:
        """Return relu(layers(x) + around(pool(x))) and its cells, with zeros outside of them."""
        here, inner = cells, features
        for index, (layer, step) in enumerate(zip(self.layers, self.strides, strict=True)):
            here = None if here is None else here.every(step)
            inner = layer(F.relu(inner, inplace=True) if index else inner, here)
        shortcut = features
        if self.pool is not None:
            shortcut = self.pool(shortcut)
            if cells is not None:
                covered = self.pool(cells.valid[:, None].to(shortcut.dtype))
                shortcut = shortcut / covered.clamp(min=torch.finfo(covered.dtype).tiny)
        if self.around is not None:
            shortcut = self.around(shortcut, here)
        return F.relu(inner.add_(shortcut), inplace=True), here


class MeanPool(nn.Module):
    """Average pooling of 2×2 cells that rounds sizes up; cells beyond the border do not count."""

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C _ _"]:
        """Return the features at half the size, rounded up."""
        return F.avg_pool2d(features, 2, ceil_mode=True)

    def plain(self) -> "HalvedByMean":
        """Return the same pool, with odd borders replicated."""
        return HalvedByMean()


class HalvedByMean(nn.Module):
    """Average pooling of 2×2 cells that rounds sizes up, with odd borders replicated.

    It equals the pool of timm's residual networks, whose rounding torch.export cannot express for
    unknown sizes.
    """

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C _ _"]:
        """Return the features at half the size, rounded up."""
        return F.avg_pool2d(F.pad(features, (0, 1, 0, 1), mode="replicate"), 2)
