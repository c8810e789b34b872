"""Position encodings, and the places where a model adds them."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.errors import ConfigError


class SinePosition(nn.Module):
    """Sines and cosines of row and column, relative to the unpadded size (arXiv 2005.12872).

    Half of the `dim` features encode the row, half the column. Wavelengths range from 2 pi to
    10000 * 2 pi, coordinates from 0 to 2 pi.
    """

    temperature = 10000.0
    place = 1.0  # of a row or column within itself: its end

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.features = dim // 2

    def forward(self, valid: Bool[Tensor, "B h w"]) -> Float[Tensor, "B D h w"]:
        """Return the encoding of every cell; padding is not counted."""
        row, column = valid.float().cumsum(1), valid.float().cumsum(2)
        before = 1 - self.place
        row = (row - before) / (row[:, -1:, :] + 1e-6) * 2 * math.pi
        column = (column - before) / (column[:, :, -1:] + 1e-6) * 2 * math.pi
        pair = torch.arange(self.features, device=valid.device).div(2, rounding_mode="floor")
        wavelength = self.temperature ** (2 * pair / self.features)
        waves = [_interleave(axis[..., None] / wavelength) for axis in (row, column)]
        return torch.cat(waves, dim=-1).permute(0, 3, 1, 2)


class CenterSinePosition(SinePosition):
    """The same of the centers of rows and columns (arXiv 2010.04159)."""

    place = 0.5


class ShortSinePosition(SinePosition):
    """The same with wavelengths of at most 20 * 2 pi (arXiv 2201.12329, section 4.4)."""

    temperature = 20.0


class SineBoxPosition(nn.Module):
    """Sines and cosines of y, x, width and height of a box (arXiv 2201.12329, section 4.1).

    Each coordinate has `features` of them, with the wavelengths of `SinePosition`.
    """

    temperature = 10000.0
    order = (1, 0, 2, 3)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n E"]:
        """Return the encoding of every box."""
        pair = torch.arange(self.features, device=cxcywh.device).div(2, rounding_mode="floor")
        wavelength = self.temperature ** (2 * pair / self.features)
        coordinates = (2 * math.pi * cxcywh).unbind(-1)
        waves = [_interleave(coordinates[at][..., None] / wavelength) for at in self.order]
        return torch.cat(waves, dim=-1)


class SineProposalPosition(SineBoxPosition):
    """The same in the order x, y, width and height (arXiv 2010.04159, section A.4)."""

    order = (0, 1, 2, 3)


class GridPosition(nn.Module):
    """Sines and cosines of row and column, counted in cells (arXiv 2304.08069).

    A quarter of the `dim` features each are sines and cosines of the row, then of the column.
    """

    temperature = 10000.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.waves = dim // 4

    def forward(self, valid: Bool[Tensor, "B h w"]) -> Float[Tensor, "1 D h w"]:
        """Return the encoding of every cell; padding, at the bottom and right, changes none."""
        height, width = valid.shape[-2:]
        powers = torch.arange(self.waves, device=valid.device, dtype=torch.float64) / self.waves
        speed = (self.temperature**-powers)[:, None]
        row = torch.arange(height, device=valid.device) * speed
        column = torch.arange(width, device=valid.device) * speed
        rows = torch.cat([row.sin(), row.cos()])[:, :, None].expand(-1, -1, width)
        columns = torch.cat([column.sin(), column.cos()])[:, None].expand(-1, height, -1)
        return torch.cat([rows, columns])[None].to(torch.get_default_dtype())


class TrainingPosition(GridPosition):
    """The same in training alone: in evaluation all cells are alike.

    As transformers runs RT-DETR with `eval_size` in its config.
    """

    def forward(self, valid: Bool[Tensor, "B h w"]) -> Float[Tensor, "1 D h w"]:
        """Return the encoding of every cell, or zeros."""
        encoding = super().forward(valid)
        return encoding if self.training else torch.zeros_like(encoding)


class LearnedPosition(nn.Module):
    """A learned embedding for each row and each column, at most 50 of either."""

    limit = 50

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(self.limit, dim // 2)
        self.columns = nn.Embedding(self.limit, dim // 2)
        nn.init.uniform_(self.rows.weight)
        nn.init.uniform_(self.columns.weight)

    def forward(self, valid: Bool[Tensor, "B h w"]) -> Float[Tensor, "1 D h w"]:
        """Return the encoding of every cell; ConfigError for more than 50 rows or columns."""
        height, width = valid.shape[-2:]
        if max(height, width) > self.limit:
            raise ConfigError(
                f"learned positions: the feature map is {height}x{width}, but only {self.limit} "
                "rows and columns are learned; use smaller images or position=sine"
            )
        columns = self.columns.weight[:width].expand(height, -1, -1)
        rows = self.rows.weight[:height, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).permute(2, 0, 1)[None]


class PositionAtAttention(nn.Module):
    """Tokens and position encodings apart: every attention layer adds them, as published."""

    def __init__(self, channels: int, dim: int, position: nn.Module) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, kernel_size=1)
        self.position = position

    def forward(
        self, features: Float[Tensor, "B C h w"], valid: Bool[Tensor, "#B h w"]
    ) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "#B N D"]]:
        """Return tokens and their positions; `valid` may have batch size 1 without padding."""
        return _tokens(self.projection(features)), _tokens(self.position(valid))


class PositionAtInput(nn.Module):
    """Tokens with their position added once, at the input (the paper's 50-line demo)."""

    def __init__(self, channels: int, dim: int, position: nn.Module, feature_scale: float) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, kernel_size=1)
        self.position = position
        self.feature_scale = feature_scale

    def forward(
        self, features: Float[Tensor, "B C h w"], valid: Bool[Tensor, "#B h w"]
    ) -> tuple[Float[Tensor, "B N D"], None]:
        """Return tokens, and no positions for the attention layers to add."""
        tokens = self.feature_scale * _tokens(self.projection(features))
        return tokens + _tokens(self.position(valid)), None


class NoPosition(nn.Module):
    """Tokens without any position encoding (an ablation of the paper)."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, kernel_size=1)

    def forward(
        self, features: Float[Tensor, "B C h w"], valid: Bool[Tensor, "#B h w"]
    ) -> tuple[Float[Tensor, "B N D"], None]:
        """Return tokens without positions; `valid` is not used."""
        return _tokens(self.projection(features)), None


def _interleave(angle: Float[Tensor, "*n F"]) -> Float[Tensor, "*n F"]:
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2)


def _tokens(grid: Float[Tensor, "B D h w"]) -> Float[Tensor, "B N D"]:
    return grid.flatten(2).transpose(1, 2)
