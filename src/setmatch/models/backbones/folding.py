"""Batch norms folded into the convolutions before them, wherever their statistics are fixed.

Folding costs one operation per weight. A separate norm costs one per output pixel, several times
more, and keeps another activation in memory.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.cells import Cells, hide, normalize


def scale_and_shift(
    weight: Float[Tensor, " C"],
    bias: Float[Tensor, " C"],
    mean: Float[Tensor, " C"],
    variance: Float[Tensor, " C"],
    eps: float,
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Return a batch norm with fixed statistics as a scale and shift per channel."""
    scale = weight * (variance + eps).rsqrt()
    return scale, bias - mean * scale


def folded(
    conv: nn.Module, norm: nn.Module
) -> tuple[Float[Tensor, "D C k k"], Float[Tensor, " D"]]:
    """Return the weights and the bias of a convolution that includes its norm in evaluation."""
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale, shift = scale_and_shift(
        norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
    )
    return conv.weight * scale[:, None, None, None], shift


def pointwise_dilation(conv: nn.Conv2d, features: Tensor) -> tuple[int, ...]:
    """Return the dilation of a convolution, or one that makes a 1×1 kernel faster.

    Dilation has no effect on a 1×1 kernel, but with one thread torch uses oneDNN, a third faster,
    only for dilated 1×1 convolutions.
    """
    pointwise = conv.kernel_size == (1, 1) and conv.stride == (1, 1)
    if pointwise and features.device.type == "cpu":
        return (2, 2)
    return conv.dilation


class ConvNorm(nn.Sequential):
    """A convolution and its batch norm, which is folded into the weights in evaluation."""

    def __init__(
        self, channels: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        padding = (kernel - 1) // 2
        super().__init__(
            nn.Conv2d(channels, out, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(out),
        )
        self.stride = stride

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return norm(conv(x)), with zeros outside of `cells`, which are those of the output."""
        conv, dilation = self.conv, pointwise_dilation(self.conv, features)
        weight, bias = self.folded() if self.is_fixed else (conv.weight, None)
        outputs = F.conv2d(features, weight, bias, conv.stride, conv.padding, dilation, conv.groups)
        return hide(outputs, cells) if self.is_fixed else normalize(self[1], outputs, cells)

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        conv, _ = self
        assert isinstance(conv, nn.Conv2d)
        return conv

    @property
    def is_fixed(self) -> bool:
        """True if the norm does not take its statistics from the batch."""
        return not self[1].training

    def folded(self) -> tuple[Float[Tensor, "D C k k"], Float[Tensor, " D"]]:
        """Return the weights and the bias of a convolution that includes the norm."""
        return folded(*self)

    def plain(self) -> "FoldedConv":
        """Return a convolution into which the norm is folded once, not at every call."""
        return FoldedConv(self.conv, *self.folded())


class FoldedConv(nn.Module):
    """A convolution that includes its norm."""

    def __init__(
        self, like: nn.Conv2d, weight: Float[Tensor, "D C k k"], bias: Float[Tensor, " D"]
    ) -> None:
        super().__init__()
        self.stride = like.stride[0]
        self.conv = nn.Conv2d(
            like.in_channels,
            like.out_channels,
            weight.shape[-1],
            self.stride,
            (weight.shape[-1] - 1) // 2,
            groups=like.groups,
            device="meta",
        )
        self.conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(
        self, features: Float[Tensor, "B C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "B D H W"]:
        """Return conv(x), with zeros outside of `cells`, which are those of the output."""
        return hide(self.conv(features), cells)


def beside(
    wide: ConvNorm, pointwise: ConvNorm
) -> tuple[Float[Tensor, "D C 3 3"], Float[Tensor, " D"]]:
    """Return a 3×3 and a 1×1 convolution of the same input, whose outputs are added, as one."""
    weight, bias = wide.folded()
    small, other_bias = pointwise.folded()
    return weight + F.pad(small, (1, 1, 1, 1)), bias + other_bias
