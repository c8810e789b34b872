"""Small backbones for CPUs: residual stages, every layer trained."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm, FoldedConv
from setmatch.models.layers.cells import Cells


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (arXiv 1512.03385, figure 2)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = ConvNorm(channels, out, stride=stride)
        self.second = ConvNorm(out, out)
        same = stride == 1 and channels == out
        self.around = nn.Identity() if same else ConvNorm(channels, out, kernel=1, stride=stride)
        self.stride = stride

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return relu(second(relu(first(x))) + around(x)), with zeros outside of `cells`."""
        inner = self.second(F.relu(self.first(features, cells), inplace=True), cells)
        if isinstance(self.around, nn.Identity):
            return F.relu(inner.add_(features), inplace=True)
        return F.relu(inner.add_(self.around(features, cells)), inplace=True)


class Layers(nn.Sequential):
    """Convolutions, blocks and activations in a row, which keep padding at zero."""

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B D H W"], Cells | None]:
        """Return the features after the last layer, and their cells."""
        for layer in self:
            if isinstance(layer, ConvNorm | FoldedConv | ResidualBlock):
                cells = None if cells is None else cells.every(layer.stride)
                features = layer(features, cells)
            else:
                features = layer(features)
        return features, cells


class SmallCNN(nn.Module):
    """A stem of stride 4, then one residual block per width; returns the last `levels` maps."""

    hides_padding = True

    def __init__(self, widths: tuple[int, int, int, int], levels: int = 3) -> None:
        super().__init__()
        first = widths[0]
        self.stem = Layers(
            ConvNorm(3, first // 2, stride=2),
            nn.ReLU(inplace=True),
            ConvNorm(first // 2, first, stride=2),
            nn.ReLU(inplace=True),
        )
        inputs = (first, *widths[:-1])
        self.stages = nn.ModuleList(
            Layers(ResidualBlock(channels, width, stride=1 if index == 0 else 2))
            for index, (channels, width) in enumerate(zip(inputs, widths, strict=True))
        )
        self.channels = widths[-levels:]

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps of strides 8, 16 and 32, with four levels also of stride 4.

        `cells` are the pixels of the images in a padded batch.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        features, cells = self.stem(pixels, cells)
        levels = []
        for stage in self.stages:
            features, cells = stage(features, cells)
            levels.append(features)
        return tuple(levels[-len(self.channels) :])


class NanoCNN(nn.Module):
    """A stem of stride 4 and two blocks: one feature map of stride 16, for small images."""

    hides_padding = True

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, last = widths
        self.layers = Layers(
            ConvNorm(3, first, stride=2),
            nn.ReLU(inplace=True),
            ConvNorm(first, first, stride=2),
            nn.ReLU(inplace=True),
            ResidualBlock(first, second, stride=2),
            ResidualBlock(second, last, stride=2),
        )
        self.channels = (last,)

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the one feature map; `cells` are the pixels of the images in a padded batch."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return (self.layers(pixels, cells)[0],)
