"""A vision transformer most of whose blocks attend within parts of the image.

timm has the transformers, but their blocks have no place for windows.
"""

import copy
from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from setmatch.models.backbones.position_resampling import CubicWeights, resampled
from setmatch.models.layers.attention.attention import Attention, FeedForward
from setmatch.models.parameter_groups import biases_of, norms_of

EPS = 1e-6
SPREAD = 0.02  # standard deviation of initial weights


class ScaledBlock(nn.Module):
    """Self-attention and a feed-forward network, each normalized before and scaled after.

    Source: arXiv 2103.17239, figure 2. Scales start at `scale`. In training, each branch is left
    out with probability `drop` (stochastic depth, arXiv 1603.09382), for each of `parts` equal
    parts of the tokens alone.
    """

    def __init__(
        self,
        dim: int,
        attention: Attention,
        ffn_dim: int,
        scale: float,
        drop: float = 0.0,
        parts: int = 1,
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim, eps=EPS)
        self.attention = attention
        self.scale_attention = nn.Parameter(torch.full((dim,), scale))
        self.norm_ffn = nn.LayerNorm(dim, eps=EPS)
        self.ffn = FeedForward(dim, ffn_dim, dropout=0.0, activation=nn.GELU)
        self.scale_ffn = nn.Parameter(torch.full((dim,), scale))
        self.drop = StochasticDepthOfParts(drop, parts) if drop else nn.Identity()

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return the tokens after both branches."""
        normed = self.norm_attention(tokens)
        attended = self.scale_attention * self.attention(normed, normed, normed)
        tokens = tokens + self.drop(attended)
        return tokens + self.drop(self.scale_ffn * self.ffn(self.norm_ffn(tokens)))


class StochasticDepthOfParts(nn.Module):
    """Leaves out each of `parts` equal parts of a branch's tokens with probability `drop`."""

    def __init__(self, drop: float, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.depth = StochasticDepth(drop, "row")

    def forward(self, branch: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Return the branch without what is left out, and the rest scaled up accordingly."""
        parts = torch.unflatten(branch, 1, (self.parts, -1)).flatten(0, 1)
        return self.depth(parts).view_as(branch)


class WindowedTransformer(nn.Module):
    """A vision transformer in windows; returns the maps after some of its blocks, of one stride.

    The image is cut into `windows` x `windows` equal parts, and blocks attend within their part,
    except those of `whole` (indices), which attend to the whole image. `outputs` are the numbers of
    blocks after which a map is taken, increasing. Positions are learned on a grid of `grid` x
    `grid` patches of `patch` pixels, and resampled for other sizes. An image whose sides are no
    multiples of `multiple` pixels is resized to the nearest ones: boxes are fractions of it, and
    stay the same.

    A subclass has `position` and `blocks`, and says what tokens a part has and what map they make.
    """

    hides_padding = False
    resampling: CubicWeights
    position: nn.Parameter
    blocks: nn.ModuleList

    def __init__(
        self,
        dim: int,
        patch: int,
        windows: int,
        grid: int,
        outputs: Sequence[int],
        whole: Collection[int],
    ) -> None:
        super().__init__()
        self.windows, self.grid, self.outputs = windows, grid, tuple(outputs)
        self.whole = frozenset(whole)
        self.multiple = patch * windows
        self.always_resamples = False
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.channels = (dim,) * len(outputs)

    def tokens_of(self, patches: Float[Tensor, "B h w D"]) -> Float[Tensor, "P n D"]:
        """Return the tokens of every part of every image, before the first block."""
        raise NotImplementedError

    def patches_of(self, tokens: Float[Tensor, "P n D"]) -> Float[Tensor, "P m D"]:
        """Return what a map shows of the tokens of every part: one for each patch."""
        raise NotImplementedError

    def forward(self, pixels: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B D h w"], ...]:
        """Return one map for each of `outputs`."""
        patches = self.embed(self.fitting(pixels))
        height, width = patches.shape[-2:]
        tokens = self.tokens_of(patches.permute(0, 2, 3, 1))
        parts = self.windows**2
        maps = []
        for index, block in enumerate(self.blocks):
            if index in self.whole:
                whole = torch.unflatten(tokens, 0, (-1, parts)).flatten(1, 2)
                tokens = torch.unflatten(block(whole), 1, (parts, -1)).flatten(0, 1)
            else:
                tokens = block(tokens)
            if index + 1 in self.outputs:
                maps.append(self._joined(self.patches_of(tokens), height, width))
        return tuple(maps)

    def plain(self) -> Self:
        """Return the same backbone, resizing and resampling by operations for every size."""
        same = copy.copy(self)
        same.always_resamples = True
        return same

    def rate_factors(self, decay: float) -> dict[int, float]:
        """Return a factor of the learning rate for each parameter up to the last block.

        It is `decay` for the last block, and falls by `decay` from block to block, back to the
        patches and positions (layer-wise decay, arXiv 2106.08254, appendix).
        """
        first = (*self.embed.parameters(), *(p for _, p in self.named_parameters(recurse=False)))
        layers = [first, *(tuple(block.parameters()) for block in self.blocks)]
        return {
            id(parameter): decay ** (len(layers) - number)
            for number, layer in enumerate(layers)
            for parameter in layer
        }

    def undecayed(self) -> set[int]:
        """Return the `id` of each bias and of each parameter of a norm, which do not decay."""
        return norms_of(self) | biases_of(self)

    def fitting(self, pixels: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 _ _"]:
        """Return the images, resized if their sides are not multiples of `multiple`."""
        height, width = map(self._nearest, pixels.shape[-2:])
        if not self.always_resamples and (height, width) == pixels.shape[-2:]:
            return pixels
        return F.interpolate(pixels, (height, width), mode="bilinear")

    def initialize_weights(self) -> None:
        """Draw linear layers and convolutions from a truncated normal distribution."""
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(part.weight, std=SPREAD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def positions(
        self, learned: Float[Tensor, "1 N D"], shape: tuple[int, int]
    ) -> Float[Tensor, "1 h w D"]:
        """Return the positions of patches in a grid of `shape` (height, width)."""
        if not self.always_resamples and shape == (self.grid, self.grid):
            return torch.unflatten(learned, 1, shape)
        return resampled(learned, self.grid, shape, self.resampling)

    def cut(self, grid: Float[Tensor, "B h w D"]) -> Float[Tensor, "P n D"]:
        """Return the tokens of every part of every image, by image, row and column."""
        columns = torch.unflatten(grid, 2, (self.windows, -1))
        parts = torch.unflatten(columns, 1, (self.windows, -1))
        return parts.transpose(2, 3).flatten(0, 2).flatten(1, 2)

    def _nearest(self, side: int) -> int:
        count: Any = (side + self.multiple // 2) // self.multiple
        whole: int = torch.sym_max(count, 1) * self.multiple  # symbolic in an export
        return whole

    def _joined(
        self, tokens: Float[Tensor, "P n D"], height: int, width: int
    ) -> Float[Tensor, "B D h w"]:
        """Return the map of every image, joined from the windows that `cut` made."""
        sides = height // self.windows, width // self.windows
        patches = torch.unflatten(tokens, 1, sides)
        parts = torch.unflatten(patches, 0, (-1, self.windows, self.windows))
        return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
