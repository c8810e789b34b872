"""DINOv2 with windows: a vision transformer most of whose blocks attend within parts of the image.

timm has the transformer, but its blocks have no place for windows.
"""

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.attention import Attention, FeedForward

EPS = 1e-6
SPREAD = 0.02  # standard deviation of initial weights


class ScaledBlock(nn.Module):
    """Self-attention and a feed-forward network, each normalized before and scaled after.

    Source: arXiv 2103.17239, figure 2, as in DINOv2 (arXiv 2304.07193).
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=EPS)
        self.attention = Attention(dim, heads, dropout=0.0)
        self.scale_attention = nn.Parameter(torch.ones(dim))
        self.norm_ffn = nn.LayerNorm(dim, eps=EPS)
        self.ffn = FeedForward(dim, ffn_dim, dropout=0.0, activation=nn.GELU)
        self.scale_ffn = nn.Parameter(torch.ones(dim))

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return the tokens after both branches."""
        normed = self.norm_attention(tokens)
        tokens = tokens + self.scale_attention * self.attention(normed, normed, normed)
        return tokens + self.scale_ffn * self.ffn(self.norm_ffn(tokens))


class WindowedDINOv2(nn.Module):
    """A vision transformer; returns the normalized maps after some of its blocks, of one stride.

    The image is cut into `windows` x `windows` equal parts with a class token each. Blocks attend
    within their part, but a block that follows one of `outputs` (numbers of blocks, increasing)
    attends to the whole image. Positions are learned on a grid of `grid` x `grid` patches of
    `patch` pixels, and resampled for other sizes. An image whose sides are no multiples of
    `multiple` pixels is resized to the nearest ones: boxes are fractions of it, and stay the same.
    """

    hides_padding = False

    def __init__(
        self,
        dim: int,
        heads: int,
        ffn_dim: int,
        patch: int,
        windows: int,
        grid: int,
        outputs: Sequence[int],
    ) -> None:
        super().__init__()
        self.windows, self.grid, self.outputs = windows, grid, tuple(outputs)
        self.multiple = patch * windows
        self.always_resamples = False
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.position = nn.Parameter(torch.zeros(1, 1 + grid**2, dim))
        self.blocks = nn.ModuleList(ScaledBlock(dim, heads, ffn_dim) for _ in range(outputs[-1]))
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.channels = (dim,) * len(outputs)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(part.weight, std=SPREAD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.class_token, std=SPREAD)
        nn.init.trunc_normal_(self.position, std=SPREAD)

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Return one map for each of `outputs`."""
        patches = self.embed(self.fitting(pixels))
        height, width = patches.shape[-2:]
        first, others = self._positions(height, width)
        tokens = self._cut(patches.permute(0, 2, 3, 1) + others)
        class_tokens = (self.class_token + first).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([class_tokens, tokens], dim=1)
        parts = self.windows**2
        maps = []
        for index, block in enumerate(self.blocks):
            if index in self.outputs:
                whole = torch.unflatten(tokens, 0, (-1, parts)).flatten(1, 2)
                tokens = torch.unflatten(block(whole), 1, (parts, -1)).flatten(0, 1)
            else:
                tokens = block(tokens)
            if index + 1 in self.outputs:
                maps.append(self._joined(self.norm(tokens)[:, 1:], height, width))
        return tuple(maps)

    def plain(self) -> Self:
        """Return the same backbone, resizing and resampling by operations for every size."""
        same = copy.copy(self)
        same.always_resamples = True
        return same

    def rate_factors(self, decay: float) -> dict[int, float]:
        """Return a factor of the learning rate for each parameter before the last norm.

        It is `decay` for the last block, and falls by `decay` from block to block, back to the
        patches and positions (layer-wise decay, arXiv 2106.08254, appendix).
        """
        embeddings = (*self.embed.parameters(), self.class_token, self.position)
        layers = [embeddings, *(tuple(block.parameters()) for block in self.blocks)]
        return {
            id(parameter): decay ** (len(layers) - number)
            for number, layer in enumerate(layers)
            for parameter in layer
        }

    def fitting(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 _ _"]:
        """Return the images, resized if their sides are no multiples of `multiple`."""
        height, width = map(self._whole, pixels.shape[-2:])
        if not self.always_resamples and (height, width) == pixels.shape[-2:]:
            return pixels
        return F.interpolate(pixels, (height, width), mode="bilinear")

    def _whole(self, side: int) -> int:
        count: Any = (side + self.multiple // 2) // self.multiple
        whole: int = torch.sym_max(count, 1) * self.multiple  # symbolic in an export
        return whole

    def _positions(
        self, height: int, width: int
    ) -> tuple[Float[Tensor, "1 1 D"], Float[Tensor, "1 h w D"]]:
        """Return the positions of the class token and of the patches."""
        first, others = self.position[:, :1], self.position[:, 1:]
        if not self.always_resamples and (height, width) == (self.grid, self.grid):
            return first, torch.unflatten(others, 1, (self.grid, self.grid))
        rows = cubic_weights(self.grid, height, others) @ others.view(self.grid, -1)
        columns = cubic_weights(self.grid, width, others)
        return first, (columns @ torch.unflatten(rows, 1, (self.grid, -1)))[None]

    def _cut(self, grid: Float[Tensor, "B h w D"]) -> Float[Tensor, "P n D"]:
        """Return the tokens of every part of every image, by image, row and column."""
        columns = torch.unflatten(grid, 2, (self.windows, -1))
        parts = torch.unflatten(columns, 1, (self.windows, -1))
        return parts.transpose(2, 3).flatten(0, 2).flatten(1, 2)

    def _joined(
        self, tokens: Float[Tensor, "P n D"], height: int, width: int
    ) -> Float[Tensor, "B D h w"]:
        """Return the map of every image, which is what `_cut` took apart."""
        sides = height // self.windows, width // self.windows
        patches = torch.unflatten(tokens, 1, sides)
        parts = torch.unflatten(patches, 0, (-1, self.windows, self.windows))
        return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def cubic_weights(old: int, new: int, like: Tensor) -> Float[Tensor, "new old"]:
    """Return the matrix that resamples `old` samples to `new` ones, with antialiasing.

    It holds what `F.interpolate` computes with mode "bicubic" and antialias, which few runtimes
    have: Keys' cubic kernel with a = -1/2, widened where samples become fewer.
    """
    step = old / like.new_full((), new)
    center = (torch.arange(new, device=like.device, dtype=like.dtype) + 0.5) * step
    place = torch.arange(old, device=like.device, dtype=like.dtype) + 0.5
    distance = ((place - center[:, None]) / step.clamp(min=1)).abs()
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weight = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weight / weight.sum(1, keepdim=True)
