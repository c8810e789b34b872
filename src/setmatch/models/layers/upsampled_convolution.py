"""A 3×3 convolution of a map that is upsampled by 2, without the upsampled copy.

Of the nine cells that a kernel sees after nearest-neighbor upsampling, only four differ. The same
result takes 16 instead of 36 products for each cell of the map, as a transposed convolution.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.cells import Cells, hide


def upsample_and_convolve(
    x: Float[Tensor, "M C h w"],
    weight: Float[Tensor, "D C 3 3"],
    size: tuple[int, int],
    cells: Cells | None = None,
) -> Float[Tensor, "M D H W"]:
    """Return conv2d(interpolate(x, size)) step by step, for any size; only `cells` are seen."""
    return F.conv2d(hide(F.interpolate(x, size=size), cells), weight, padding=1)


def convolve_upsampled(
    x: Float[Tensor, "M C h w"],
    weight: Float[Tensor, "D C 3 3"],
    size: tuple[int, int],
    cells: Cells | None = None,
) -> Float[Tensor, "M D H W"]:
    """Return conv2d(interpolate(x, size)) without the upsampled copy of x.

    `size` is that of x, or twice it, less one where the finer level is odd. With `cells`, images
    have any sizes, and the copy is made.
    """
    if cells is not None:
        return upsample_and_convolve(x, weight, size, cells)
    height, width = x.shape[-2:]
    if size == (height, width):
        return F.conv2d(x, weight, padding=1)
    assert (height, width) == (-(-size[0] // 2), -(-size[1] // 2)), "a level is half the finer one"
    convolved = F.conv_transpose2d(x, _spread(weight), stride=2, padding=1)
    convolved = convolved[..., : size[0], : size[1]]
    if size[0] % 2:
        convolved[..., -1:, :] -= _row_beyond(x, weight, size[1])
    if size[1] % 2:
        convolved[..., -1:] -= _column_beyond(x, weight, size[0])
    return convolved


class UpsampledConv(nn.Module):
    """`convolve_upsampled` by the same operations for even and odd sizes, for exported models."""

    def __init__(self, weight: Float[Tensor, "D C 3 3"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.spread = nn.Parameter(_spread(self.weight), requires_grad=False)

    def forward(
        self, x: Float[Tensor, "M C h w"], size: tuple[int, int], cells: Cells | None = None
    ) -> Float[Tensor, "M D H W"]:
        """Return conv2d(interpolate(x, size)); `size` is twice that of x, less one where odd."""
        if cells is not None:
            return upsample_and_convolve(x, self.weight, size, cells)
        height, width = size
        convolved = F.conv_transpose2d(x, self.spread, stride=2, padding=1)[..., :height, :width]
        row = _row_beyond(x, self.weight, width) * (2 * x.shape[-2] - height)
        column = _column_beyond(x, self.weight, height) * (2 * x.shape[-1] - width)
        return convolved - F.pad(row, (0, 0, height - 1, 0)) - F.pad(column, (width - 1, 0))


def _spread(weight: Float[Tensor, "D C 3 3"]) -> Float[Tensor, "C D 4 4"]:
    """Return the kernel of the transposed convolution: each cell stands for 2×2."""
    flipped = weight.flip(2, 3)
    rows = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
    return (F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))).transpose(0, 1)


def _row_beyond(
    x: Float[Tensor, "M C h w"], weight: Float[Tensor, "D C 3 3"], width: int
) -> Float[Tensor, "M D 1 W"]:
    """Return what the last row of the output has of the row beyond it, where the height is odd."""
    row = F.interpolate(x[..., -1:, :], size=(1, width))
    return F.conv2d(row, weight[:, :, 2:], padding=(0, 1))


def _column_beyond(
    x: Float[Tensor, "M C h w"], weight: Float[Tensor, "D C 3 3"], height: int
) -> Float[Tensor, "M D H 1"]:
    """Return what the last column has of the one beyond it, down to the row beyond the last."""
    column = F.interpolate(x[..., -1:], size=(2 * x.shape[-2], 1))
    return F.conv2d(column, weight[..., 2:], padding=(1, 0))[..., :height, :]
