"""Convolution blocks that fuse feature maps in hybrid encoders."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.backbones.folding import ConvNorm, FoldedConv, beside, folded
from setmatch.models.layers.cells import Cells, hide, normalize
from setmatch.models.layers.upsampled_convolution import UpsampledConv, convolve_upsampled


class ConvNormSiLU(ConvNorm):
    """A convolution, its batch norm and a SiLU, which is zero at zero and so keeps padding zero."""

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return silu(norm(conv(x))), with zeros outside of `cells`."""
        return F.silu(super().forward(features, cells))

    def plain(self) -> "FoldedConvSiLU":
        """Return a convolution into which the norm is folded once, and its activation."""
        return FoldedConvSiLU(self.conv, *self.folded())


class FoldedConvSiLU(FoldedConv):
    """A convolution that includes its norm, and a SiLU."""

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return silu(conv(x)), with zeros outside of `cells`."""
        return F.silu(super().forward(features, cells))


class FinerFusion(nn.Sequential):
    """A 3×3 convolution of a map beside the coarser one, upsampled, and its batch norm.

    Each half of the kernel is applied to its own map: the half of the coarser map takes less than
    half of the products then, and no concatenated map is made.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(*ConvNorm(2 * dim, dim))

    def forward(
        self,
        maps: tuple[Float[Tensor, "B D H W"], Float[Tensor, "B D h w"]],
        cells: Cells | None = None,
    ) -> Float[Tensor, "B D H W"]:
        """Return norm(conv([finer, upsampled coarser])), with zeros outside of `cells`."""
        finer, coarser = maps
        conv, norm = self
        assert isinstance(conv, nn.Conv2d)
        fixed = not norm.training
        weight, bias = folded(conv, norm) if fixed else (conv.weight, None)
        of_finer, of_coarser = weight.chunk(2, dim=1)
        size = finer.shape[2], finer.shape[3]
        convolved = F.conv2d(finer, of_finer, bias, padding=1)
        convolved += convolve_upsampled(coarser, of_coarser, size, cells)
        return hide(convolved, cells) if fixed else normalize(norm, convolved, cells)

    def plain(self) -> "FoldedFinerFusion":
        """Return the two convolutions, into which the norm is folded once."""
        return FoldedFinerFusion(*folded(*self))


class FoldedFinerFusion(nn.Module):
    """A convolution of a map beside the upsampled coarser one, which includes its norm."""

    def __init__(self, weight: Float[Tensor, "D C 3 3"], bias: Float[Tensor, " D"]) -> None:
        super().__init__()
        of_finer, of_coarser = weight.detach().chunk(2, dim=1)
        self.weight = nn.Parameter(of_finer, requires_grad=False)
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.of_coarser = UpsampledConv(of_coarser)

    def forward(
        self,
        maps: tuple[Float[Tensor, "B D H W"], Float[Tensor, "B D h w"]],
        cells: Cells | None = None,
    ) -> Float[Tensor, "B D H W"]:
        """Return conv([finer, upsampled coarser]), with zeros outside of `cells`."""
        finer, coarser = maps
        size = finer.shape[2], finer.shape[3]
        convolved = F.conv2d(finer, self.weight, self.bias, padding=1)
        return hide(convolved + self.of_coarser(coarser, size, cells), cells)


class RepVGGBlock(nn.Module):
    """A 3×3 and a 1×1 convolution side by side (arXiv 2101.03697, without its identity).

    In evaluation they are one convolution, as there.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = ConvNorm(channels, channels)
        self.pointwise = ConvNorm(channels, channels, kernel=1)

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B C h w"]:
        """Return silu(wide(x) + pointwise(x))."""
        if not (self.wide.is_fixed and self.pointwise.is_fixed):
            return F.silu(self.wide(features, cells) + self.pointwise(features, cells))
        weight, bias = beside(self.wide, self.pointwise)
        return F.silu(hide(F.conv2d(features, weight, bias, padding=1), cells))

    def plain(self) -> FoldedConvSiLU:
        """Return the one convolution, folded once, and its activation."""
        return FoldedConvSiLU(self.wide.conv, *beside(self.wide, self.pointwise))


class CSPBlock(nn.Module):
    """Two projections of the input, one of them through RepVGG blocks, and their sum.

    Source: arXiv 1911.11929 as in arXiv 2304.08069, figure 3.
    """

    def __init__(self, channels: int, out: int, blocks: int) -> None:
        super().__init__()
        self.main = ConvNormSiLU(channels, out, kernel=1)
        self.around = ConvNormSiLU(channels, out, kernel=1)
        self.blocks = nn.ModuleList(RepVGGBlock(out) for _ in range(blocks))

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return blocks(main(x)) + around(x)."""
        inner = self.main(features, cells)
        for block in self.blocks:
            inner = block(inner, cells)
        return inner + self.around(features, cells)


class ELANBlock(nn.Module):
    """CSP blocks in a row whose outputs are all concatenated (RepNCSPELAN4 of arXiv 2402.13616).

    Two feature maps come in, fused to `channels`, one of `dim` channels goes out; the blocks have
    `inner` channels.
    """

    def __init__(self, channels: int, dim: int, inner: int, blocks: int) -> None:
        super().__init__()
        self.split = ConvNormSiLU(channels, 2 * dim, kernel=1)
        self.first = CSPBlock(dim, inner, blocks)
        self.after_first = ConvNormSiLU(inner, inner)
        self.second = CSPBlock(inner, inner, blocks)
        self.after_second = ConvNormSiLU(inner, inner)
        self.merge = ConvNormSiLU(2 * dim + 2 * inner, dim, kernel=1)

    def forward(
        self, features: Float[Tensor, "B E h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the fused features, with zeros outside of `cells`."""
        kept, inner = self.split(features, cells).chunk(2, dim=1)
        once = self.after_first(self.first(inner, cells), cells)
        twice = self.after_second(self.second(once, cells), cells)
        return self.merge(torch.cat([kept, inner, once, twice], dim=1), cells)


class ShrinkBlock(nn.Module):
    """A 1×1 convolution, then a depthwise one that halves the size (arXiv 2405.14458, 3.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pointwise = ConvNorm(dim, dim, kernel=1)
        self.depthwise = ConvNorm(dim, dim, stride=2, groups=dim)

    def forward(
        self,
        features: Float[Tensor, "B D h w"],
        cells: Cells | None,
        coarser_cells: Cells | None,
    ) -> Float[Tensor, "B D H W"]:
        """Return the features at half the size; `coarser_cells` are those of the output."""
        return self.depthwise(self.pointwise(features, cells), coarser_cells)


class CSPFusion(nn.Module):
    """A CSP block of `inner` channels that fuses two concatenated maps (arXiv 2304.08069, 4.2).

    Its output is projected to `dim` channels where it has another number.
    """

    def __init__(self, dim: int, inner: int, blocks: int) -> None:
        super().__init__()
        self.csp = CSPBlock(2 * dim, inner, blocks)
        self.merge = None if inner == dim else ConvNormSiLU(inner, dim, kernel=1)

    def forward(
        self, features: Float[Tensor, "B E h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the fused features, with zeros outside of `cells`."""
        fused = self.csp(features, cells)
        return fused if self.merge is None else self.merge(fused, cells)


class ShrinkConv(nn.Module):
    """A 3×3 convolution that halves the size."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = ConvNormSiLU(dim, dim, stride=2)

    def forward(
        self,
        features: Float[Tensor, "B D h w"],
        cells: Cells | None,
        coarser_cells: Cells | None,
    ) -> Float[Tensor, "B D H W"]:
        """Return the features at half the size; `coarser_cells` are those of the output."""
        return self.conv(features, coarser_cells)
