"""Padding kept out of feature maps: which cells lie on an image, and norms over those cells alone.

An image alone is surrounded by zeros in every convolution. In a padded batch it is surrounded by
what the layers make of its padding, unless that is set to zero after every layer. `Cells` says
where; None stands for a batch without padding, for which nothing is done and nothing is paid.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.structures.batch import Batch


@dataclass(frozen=True)
class Cells:
    """Which cells of a feature map lie on an image: a rectangle at the top left of each."""

    valid: Bool[Tensor, "B h w"]

    @cached_property
    def rows(self) -> Int[Tensor, " N"]:
        """The indices of the valid cells among all cells of the batch."""
        return self.valid.flatten().nonzero()[:, 0]

    @cached_property
    def valid_wh(self) -> Int[Tensor, "B 2"]:
        """The width and height of each image in cells."""
        return torch.stack([self.valid[:, 0].sum(1), self.valid[:, :, 0].sum(1)], dim=1)

    def ratio(self, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B 2"]:
        """Return the fractions of the map's width and height that each image covers."""
        height, width = self.valid.shape[-2:]
        return self.valid_wh.to(dtype) / self.valid_wh.new_tensor([width, height])

    def every(self, stride: int) -> "Cells":
        """Return the cells of the map that a layer of `stride` computes from this one.

        Layers of the models' backbones round sizes up, of an image alone as of a batch.
        """
        return self if stride == 1 else Cells(self.valid[:, ::stride, ::stride])

    def at(self, size: tuple[int, int]) -> "Cells":
        """Return the cells of a coarser map of `size` (height, width).

        Where strides are powers of two that round sizes up, an image has as many cells as alone.
        Otherwise a cell lies on every image that it overlaps.
        """
        fine = self.valid.shape[-2:]
        down, right = (_stride(pixels, cells) for pixels, cells in zip(fine, size, strict=True))
        if down is None or right is None:
            return Cells(F.adaptive_max_pool2d(self.valid[:, None].float(), size)[:, 0] > 0)
        return Cells(self.valid[:, ::down, ::right])


def cells_of(batch: Batch, features: Float[Tensor, "B C h w"]) -> Cells | None:
    """Return the cells of a feature map that lie on an image; None if nothing is padded."""
    height, width = features.shape[-2:]
    return Cells(batch.valid).at((height, width)) if batch.padded else None


def halved(cells: Cells | None) -> Cells | None:
    """Return the cells of a map at half the size, rounded up."""
    return None if cells is None else cells.every(2)


def doubled(cells: Cells | None) -> Cells | None:
    """Return the cells of a map at twice the size."""
    if cells is None:
        return None
    return Cells(cells.valid.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2))


def _stride(pixels: int, cells: int) -> int | None:
    """Return the power of two by which `pixels`, rounded up, are `cells`; None if there is none."""
    strides = (2**power for power in range(pixels.bit_length() + 1))
    return next((stride for stride in strides if -(-pixels // stride) == cells), None)


def cell_centers(
    shape: tuple[int, int], cells: Cells | None, device: torch.device
) -> tuple[Float[Tensor, "#B w"], Float[Tensor, "#B h"]]:
    """Return x and y of the centers of columns and rows, as fractions of each image."""
    height, width = shape
    x = torch.arange(width, device=device) + 0.5
    y = torch.arange(height, device=device) + 0.5
    if cells is None:
        return x[None] / width, y[None] / height
    return x / cells.valid_wh[:, :1], y / cells.valid_wh[:, 1:]


def cell_grid(
    x: Float[Tensor, "#B w"], y: Float[Tensor, "#B h"]
) -> tuple[Float[Tensor, "#B h w"], Float[Tensor, "#B h w"]]:
    """Return x and y of every cell, from those of columns and rows."""
    height, width = y.shape[1], x.shape[1]
    return x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)


def hide(features: Float[Tensor, "B C h w"], cells: Cells | None) -> Float[Tensor, "B C h w"]:
    """Return the features with zeros on padding."""
    return features if cells is None else features * cells.valid[:, None]


def normalize(
    norm: nn.Module, features: Float[Tensor, "B C h w"], cells: Cells | None
) -> Float[Tensor, "B C h w"]:
    """Return the normalized features, zero on padding.

    In training, a batch norm takes its statistics from the images alone: those of a batch with
    padding would not fit the images without it that the model sees later.
    """
    if cells is None:
        return norm(features)
    if not (isinstance(norm, nn.BatchNorm2d) and norm.training):
        return hide(norm(features), cells)
    return spread(norm(gather(features, cells)), cells)


def gather(features: Float[Tensor, "B C h w"], cells: Cells) -> Float[Tensor, "N C 1 1"]:
    """Return the features of the cells alone, each as a map of its own."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)
    return rows.index_select(0, cells.rows)[..., None, None]


def spread(gathered: Float[Tensor, "N C 1 1"], cells: Cells) -> Float[Tensor, "B C h w"]:
    """Return the map whose features `gather` returned, with zeros on padding."""
    images, height, width = cells.valid.shape
    channels = gathered.shape[1]
    rows = gathered.new_zeros(images * height * width, channels)
    rows = rows.index_copy(0, cells.rows, gathered[..., 0, 0])
    return rows.view(images, height, width, channels).permute(0, 3, 1, 2)


def group_normalize(
    norm: nn.GroupNorm, features: Float[Tensor, "M C h w"], cells: Cells | None
) -> Float[Tensor, "M C h w"]:
    """Return the features, normalized by the statistics of each image alone; zero on padding."""
    if cells is None:
        return norm(features)
    on_image = cells.valid[:, None, None]
    groups = torch.unflatten(features, 1, (norm.num_groups, -1))
    count = on_image.sum((2, 3, 4), keepdim=True) * groups.shape[2]
    centered = groups - (groups * on_image).sum((2, 3, 4), keepdim=True) / count
    variance = (centered * on_image).square().sum((2, 3, 4), keepdim=True) / count
    normalized = (centered * (variance + norm.eps).rsqrt()).flatten(1, 2)
    scaled = normalized * norm.weight[:, None, None] + norm.bias[:, None, None]
    return hide(scaled, cells)
