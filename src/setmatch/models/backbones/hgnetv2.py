"""HGNetV2: stages of blocks that keep the outputs of all of their layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.backbones.frozen_norms import BackboneWithNorms
from setmatch.models.layers.cells import Cells, hide


@dataclass(frozen=True)
class Stage:
    """The sizes of a stage: `blocks` blocks of `layers` layers with `inner` channels each.

    `light` layers are a 1×1 convolution and a depthwise one. `halves` is True if the stage begins
    by halving the feature map.
    """

    inner: int
    out: int
    blocks: int
    layers: int
    kernel: int = 3
    light: bool = False
    halves: bool = True


class HGNetV2(BackboneWithNorms):
    """A stem of stride 4 and stages; returns the feature maps of the last `levels` stages.

    Small variants scale and shift the output of every activation by two learned numbers
    (`affine`). With `frozen_norms` batch norms keep the statistics and weights they were loaded
    with. Source: the backbone of arXiv 2304.08069 and 2410.13842, without its classifier.
    """

    hides_padding = True

    def __init__(
        self,
        stem: tuple[int, int],
        stages: Sequence[Stage],
        levels: int,
        affine: bool,
        frozen_norms: bool = False,
    ) -> None:
        super().__init__()
        inner, out = stem
        self.stem = Stem(inner, out, affine)
        inputs = (out, *(stage.out for stage in stages[:-1]))
        self.stages = nn.ModuleList(
            HGStage(channels, stage, affine) for channels, stage in zip(inputs, stages, strict=True)
        )
        self.channels = tuple(stage.out for stage in stages[-levels:])
        if frozen_norms:
            self.freeze_norms()

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None = None
    ) -> tuple[Float[Tensor, "B _ _ _"], ...]:
        """Return the feature maps, each at half the size of the one before it.

        `cells` are the pixels of the images in a padded batch, whose padding is hidden.
        """
        features, cells = self.stem(pixels.contiguous(memory_format=torch.channels_last), cells)
        levels = []
        for stage in self.stages:
            features, cells = stage(features, cells)
            levels.append(features)
        return tuple(levels[-len(self.channels) :])


class ConvNormReLU(nn.Module):
    """A convolution, its batch norm and a ReLU, then two learned numbers if `affine`."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        affine: bool,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = ConvNorm(channels, out, kernel, stride, groups)
        self.affine = ScaleAndShift() if affine else None

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B D H W"]:
        """Return the features, with zeros outside of `cells`, which are those of the output."""
        features = F.relu(self.conv(features, cells), inplace=True)
        return features if self.affine is None else hide(self.affine(features), cells)


class _ScaledAndShifted(torch.autograd.Function):
    """shift + scale · x, whose gradients take three passes over the features instead of seven."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(features, scale)
        return torch.addcmul(shift, scale, features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,) = gradients
        features, scale = ctx.saved_tensors
        flat, of_features = (x.permute(0, 2, 3, 1).reshape(-1) for x in (gradient, features))
        product = torch.dot(flat, of_features.to(flat.dtype))
        return gradient * scale, product[None], flat.sum()[None]


class ScaleAndShift(nn.Module):
    """Two learned numbers for a whole feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return shift + scale · x, in one pass over the features."""
        if torch.is_grad_enabled():
            return _ScaledAndShifted.apply(features, self.scale, self.shift)
        return torch.addcmul(self.shift, self.scale, features)

    def plain(self) -> "PlainScaleAndShift":
        """Return the same as a product and a sum, which every runtime has."""
        return PlainScaleAndShift(self.scale, self.shift)


class PlainScaleAndShift(nn.Module):
    """Two numbers for a whole feature map, by a product and a sum."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale.detach(), requires_grad=False)
        self.shift = nn.Parameter(shift.detach(), requires_grad=False)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Return scale · x + shift."""
        return self.scale * features + self.shift


class Stem(nn.Module):
    """From pixels to stride 4: two branches, a pool and two small convolutions, between others."""

    def __init__(self, inner: int, out: int, affine: bool) -> None:
        super().__init__()
        self.first = ConvNormReLU(3, inner, 3, affine, stride=2)
        self.narrow = ConvNormReLU(inner, inner // 2, 2, affine)
        self.widen = ConvNormReLU(inner // 2, inner, 2, affine)
        self.merge = ConvNormReLU(2 * inner, inner, 3, affine, stride=2)
        self.last = ConvNormReLU(inner, out, 1, affine)

    def forward(
        self, pixels: Float[Tensor, "B 3 H W"], cells: Cells | None
    ) -> tuple[Float[Tensor, "B C h w"], Cells | None]:
        """Return the features and their cells. A kernel of 2×2 sees zeros beyond the border."""
        half = None if cells is None else cells.every(2)
        quarter = None if half is None else half.every(2)
        features = F.pad(self.first(pixels, half), (0, 1, 0, 1))
        branch = F.pad(self.narrow(features, half), (0, 1, 0, 1))
        pooled = hide(F.max_pool2d(features, kernel_size=2, stride=1), half)
        both = torch.cat([pooled, self.widen(branch, half)], dim=1)
        return self.last(self.merge(both, quarter), quarter), quarter


class HGStage(nn.Module):
    """Blocks at one size; all but the first add their input to their output."""

    def __init__(self, channels: int, stage: Stage, affine: bool) -> None:
        super().__init__()
        self.shrink = (
            ConvNorm(channels, channels, stride=2, groups=channels) if stage.halves else None
        )
        inputs = (channels, *[stage.out] * (stage.blocks - 1))
        self.blocks = nn.ModuleList(HGBlock(width, stage, affine) for width in inputs)

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> tuple[Float[Tensor, "B D H W"], Cells | None]:
        """Return the features after the last block, and their cells."""
        if self.shrink is not None:
            cells = None if cells is None else cells.every(2)
            features = self.shrink(features, cells)
        first, *others = self.blocks
        features = first(features, cells)
        for block in others:
            features = block(features, cells) + features
        return features, cells


class HGBlock(nn.Module):
    """Layers in a row, whose outputs and the input are all concatenated and projected."""

    def __init__(self, channels: int, stage: Stage, affine: bool) -> None:
        super().__init__()
        layer = LightLayer if stage.light else ConvNormReLU
        inputs = (channels, *[stage.inner] * (stage.layers - 1))
        self.layers = nn.ModuleList(
            layer(width, stage.inner, stage.kernel, affine) for width in inputs
        )
        everything = channels + stage.layers * stage.inner
        self.squeeze = ConvNormReLU(everything, stage.out // 2, 1, affine)
        self.expand = ConvNormReLU(stage.out // 2, stage.out, 1, affine)

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the features at the same size."""
        outputs = [features]
        for layer in self.layers:
            outputs.append(layer(outputs[-1], cells))
        return self.expand(self.squeeze(torch.cat(outputs, dim=1), cells), cells)


class LightLayer(nn.Module):
    """A 1×1 convolution without an activation, then a depthwise one with it."""

    def __init__(self, channels: int, out: int, kernel: int, affine: bool) -> None:
        super().__init__()
        self.pointwise = ConvNorm(channels, out, kernel=1)
        self.depthwise = ConvNormReLU(out, out, kernel, affine, groups=out)

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the features, with zeros outside of `cells`."""
        return self.depthwise(self.pointwise(features, cells), cells)
