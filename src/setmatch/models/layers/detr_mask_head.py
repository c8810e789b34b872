"""The published mask head: where each query looks, grown to a mask through the trunk's levels.

Masks are made when they are asked for, of the queries that are asked for: in training only matched
queries have one to learn, and a mask for every query would be most of the memory of a step.
"""

import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.ops.precision import at_least_single
from setmatch.structures.outputs import MaskDecoder

AT_ONCE = 10  # queries of every image whose masks are made together where all are wanted


class MHAttentionMap(nn.Module):
    """How much each query looks at each cell, per head: attention without values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        for projection in (self.query, self.key):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> Float[Tensor, "B Q H N"]:
        """Return shares that add up to 1 over all heads and cells together, as published."""
        query = self.query(content).unflatten(-1, (self.heads, -1))
        key = self.key(memory).unflatten(-1, (self.heads, -1))
        affinity = torch.einsum("bqhd,bnhd->bqhn", query / math.sqrt(query.shape[-1]), key)
        if attn_mask is not None:
            affinity = affinity.masked_fill(~attn_mask, float("-inf"))
        return affinity.flatten(2).softmax(-1).view_as(affinity)


class MaskLayer(nn.Module):
    """A 3×3 convolution, a group norm and a ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(8, out), out)

    def forward(self, x: Float[Tensor, "M C h w"]) -> Float[Tensor, "M D h w"]:
        """Return relu(norm(conv(x)))."""
        return self.finish(self.conv(x))

    def finish(self, convolved: Float[Tensor, "M D h w"]) -> Float[Tensor, "M D h w"]:
        """Return what `forward` makes of a convolution that was done in parts."""
        return F.relu(self.norm(convolved), inplace=True)


class DETRMaskHead(nn.Module):
    """Attention maps, then convolutions that grow and take in finer levels (arXiv 2005.12872, 4.4).

    As published, every query convolves its own copy of features that all queries of an image
    share. Convolutions are linear, so here what is shared is convolved once an image.
    """

    def __init__(self, dim: int, heads: int, finer_channels: Sequence[int]) -> None:
        super().__init__()
        widths = (dim + heads, dim + heads, *(dim // 2**power for power in range(1, 5)))
        self.attention = MHAttentionMap(dim, heads)
        self.layers = nn.ModuleList(MaskLayer(a, b) for a, b in itertools.pairwise(widths))
        self.adapters = nn.ModuleList(
            nn.Conv2d(channels, width, 1)
            for channels, width in zip(reversed(finer_channels), widths[2:-1], strict=True)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None, "convolutions have biases by default"
                nn.init.zeros_(module.bias)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        tokens: Float[Tensor, "B N D"],
        levels: Sequence[Float[Tensor, "B _ _ _"]],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
    ) -> MaskDecoder:
        """Return what makes masks: of the finest level's size, in logits.

        `tokens` are the cells of the coarsest level before the encoder, `memory` after it.
        """
        *finer, coarsest = levels
        size = coarsest.shape[-2:]
        looks = self.attention(content, memory, attn_mask)
        looks = looks.view(*looks.shape[:-1], *size)
        first, second, *growing = cast("list[MaskLayer]", list(self.layers))
        dim = tokens.shape[-1]
        for_tokens, for_looks = first.conv.weight[:, :dim], first.conv.weight[:, dim:]
        grid = tokens.transpose(1, 2).reshape(tokens.shape[0], dim, *size)
        ground = F.conv2d(grid, for_tokens, first.conv.bias, padding=1)
        details = [
            layer.conv(adapter(level))
            for layer, adapter, level in zip(growing, self.adapters, reversed(finer), strict=True)
        ]

        def mask_decoder(
            image: Int[Tensor, " M"], query: Int[Tensor, " M"]
        ) -> Float[Tensor, "M h w"]:
            own = F.conv2d(looks[image, query], for_looks, padding=1)
            x = second(first.finish(own + ground.index_select(0, image)))
            for layer, detail in zip(growing, details, strict=True):
                own = upsample_conv(x, layer.conv.weight, detail.shape[-2:])
                x = layer.finish(own + detail.index_select(0, image))
            return at_least_single(self.out(x)[:, 0])

        return in_this_precision(mask_decoder, coarsest.device.type)


def in_this_precision(mask_decoder: MaskDecoder, device: str) -> MaskDecoder:
    """Return `mask_decoder` as it would compute here and now: autocast ends before it is called."""
    enabled, precision = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def later(image: Int[Tensor, " M"], query: Int[Tensor, " M"]) -> Float[Tensor, "M h w"]:
        with torch.autocast(device, dtype=precision, enabled=enabled):
            return mask_decoder(image, query)

    return later


def all_masks(
    mask_decoder: MaskDecoder, images: int, queries: int, device: torch.device
) -> Float[Tensor, "B Q h w"]:
    """Make the masks of all queries, some at a time: the steps on the way take several times more
    memory than the masks.
    """
    image = torch.arange(images, device=device)[:, None]
    parts = []
    for some in torch.split(torch.arange(queries, device=device), AT_ONCE):
        masks = mask_decoder(image.expand(-1, len(some)).flatten(), some.repeat(images))
        parts.append(masks.view(images, len(some), *masks.shape[1:]))
    return torch.cat(parts, dim=1)


def upsample_conv(
    x: Float[Tensor, "M C h w"], weight: Float[Tensor, "D C 3 3"], size: tuple[int, int]
) -> Float[Tensor, "M D H W"]:
    """Convolve x as if it had been grown to `size`, by nearest neighbors, without growing it.

    `size` is that of x, or twice it, less one where the finer level is odd. Where every pixel
    stands four times, sixteen products do what thirty-six would: a transposed convolution. Of odd
    sizes the last row and column, whose neighbors are not there, are done again.
    """
    if torch.compiler.is_exporting():  # to a graph that serves even and odd sizes alike
        return F.conv2d(F.interpolate(x, size=size), weight, padding=1)
    height, width = x.shape[-2:]
    if size == (height, width):
        return F.conv2d(x, weight, padding=1)
    assert (height, width) == (-(-size[0] // 2), -(-size[1] // 2)), "a level is half the finer one"
    rows = F.pad(weight.flip(2, 3), (0, 0, 0, 1)) + F.pad(weight.flip(2, 3), (0, 0, 1, 0))
    spread = (F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))).transpose(0, 1)
    convolved = F.conv_transpose2d(x, spread, stride=2, padding=1)[..., : size[0], : size[1]]
    if size[0] % 2:
        bottom = F.interpolate(x[..., -2:, :], size=(min(3, size[0]), size[1]))
        convolved[..., -1:, :] = F.conv2d(bottom, weight, padding=1)[..., -1:, :]
    if size[1] % 2:
        right = F.interpolate(x[..., -2:], size=(size[0], min(3, size[1])))
        convolved[..., -1:] = F.conv2d(right, weight, padding=1)[..., -1:]
    return convolved
