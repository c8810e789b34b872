"""The published mask head: attention maps of each query, upsampled with the backbone's levels.

Masks are computed on request, for chosen queries: in training only matched queries need one, and
masks for all queries would take most of a step's memory.
"""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.cells import Cells, group_normalize, hide
from setmatch.models.layers.upsampled_convolution import (
    convolve_upsampled,
    upsample_and_convolve,
)
from setmatch.ops.precision import at_least_single
from setmatch.structures.outputs import MaskDecoder

CHUNK = 10  # queries per image whose masks are computed together


class MHAttentionMap(nn.Module):
    """Attention weights of each query over the cells, per head, without values."""

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
        """Return weights that sum to 1 over all heads and cells together, as published."""
        query = self.query(content).unflatten(-1, (self.heads, -1))
        key = self.key(memory).unflatten(-1, (self.heads, -1))
        logits = torch.einsum("bqhd,bnhd->bqhn", query / math.sqrt(query.shape[-1]), key)
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, float("-inf"))
        return logits.flatten(2).softmax(-1).view_as(logits)


class MaskLayer(nn.Module):
    """A 3×3 convolution, a group norm and a ReLU."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = nn.GroupNorm(math.gcd(8, out), out)

    def forward(
        self, x: Float[Tensor, "M C h w"], cells: Cells | None = None
    ) -> Float[Tensor, "M D h w"]:
        """Return relu(norm(conv(x)))."""
        return self.finish(self.conv(x), cells)

    def finish(
        self, convolved: Float[Tensor, "M D h w"], cells: Cells | None = None
    ) -> Float[Tensor, "M D h w"]:
        """Return relu(norm(convolved)), for a convolution that was computed in parts."""
        return F.relu(group_normalize(self.norm, convolved, cells), inplace=True)


class DETRMaskHead(nn.Module):
    """Attention maps, then an FPN-style stack of convolutions (arXiv 2005.12872, section 4.4).

    The published code convolves the image features once per query. Convolution is linear, so here
    the part that all queries share is convolved once per image.
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
        self.convolve_upsampled = convolve_upsampled
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None, "convolutions have biases by default"
                nn.init.zeros_(module.bias)

    def plain(self) -> "DETRMaskHead":
        """Return the same head, whose operations do not depend on the image size."""
        same = copy.copy(self)
        same.convolve_upsampled = upsample_and_convolve
        return same

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B N D"],
        tokens: Float[Tensor, "B N D"],
        levels: Sequence[Float[Tensor, "B _ _ _"]],
        attn_mask: Bool[Tensor, "B 1 1 N"] | None,
        cells: Sequence[Cells | None] | None = None,
    ) -> MaskDecoder:
        """Return the decoder of mask logits at the size of the finest level.

        `tokens` are the coarsest level before the encoder, `memory` after it. With the `cells` of
        every level, padding is hidden; without them it is convolved, as published.
        """
        *finer, coarsest = levels
        size = coarsest.shape[-2:]
        maps = self.attention(content, memory, attn_mask)
        maps = maps.view(*maps.shape[:-1], *size)
        first, second, *upsampling = cast("list[MaskLayer]", list(self.layers))
        dim = tokens.shape[-1]
        token_weight, map_weight = first.conv.weight[:, :dim], first.conv.weight[:, dim:]
        grid = tokens.transpose(1, 2).reshape(tokens.shape[0], dim, *size)
        coarsest_cells, *finer_cells = list(reversed(cells)) if cells else [None] * len(levels)
        grid = hide(grid, coarsest_cells)
        shared = F.conv2d(grid, token_weight, first.conv.bias, padding=1)
        details = [
            layer.conv(hide(adapter(level), on_image))
            for layer, adapter, level, on_image in zip(
                upsampling, self.adapters, reversed(finer), finer_cells, strict=True
            )
        ]

        def mask_decoder(
            image: Int[Tensor, " M"], query: Int[Tensor, " M"]
        ) -> Float[Tensor, "M h w"]:
            own = F.conv2d(maps[image, query], map_weight, padding=1)
            chosen = _of_images(coarsest_cells, image)
            x = second(first.finish(own + shared.index_select(0, image), chosen), chosen)
            for layer, detail, on_image in zip(upsampling, details, finer_cells, strict=True):
                chosen = _of_images(on_image, image)
                size = detail.shape[-2:]
                own = self.convolve_upsampled(x, layer.conv.weight, size, chosen)
                x = layer.finish(own + detail.index_select(0, image), chosen)
            return at_least_single(self.out(x)[:, 0])

        return with_current_autocast(mask_decoder, coarsest.device.type)


def with_current_autocast(mask_decoder: MaskDecoder, device: str) -> MaskDecoder:
    """Return `mask_decoder` bound to the current autocast, which ends before it is called."""
    enabled, precision = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def later(image: Int[Tensor, " M"], query: Int[Tensor, " M"]) -> Float[Tensor, "M h w"]:
        with torch.autocast(device, dtype=precision, enabled=enabled):
            return mask_decoder(image, query)

    return later


def all_masks(
    mask_decoder: MaskDecoder, images: int, queries: int, device: torch.device
) -> Float[Tensor, "B Q h w"]:
    """Compute the masks of all queries, in chunks: intermediate features take the most memory.

    In an export, `queries` is symbolic if it depends on the size of the images. No loop can have a
    symbolic number of turns, so that all masks are one chunk there.
    """
    image = torch.arange(images, device=device)[:, None]
    query = torch.arange(queries, device=device)
    if isinstance(queries, torch.SymInt):
        chunks = [query]
    else:  # no torch.split, which OpenVINO cannot convert
        chunks = [query[start : start + CHUNK] for start in range(0, queries, CHUNK)]
    parts = []
    for chunk in chunks:
        count = chunk.shape[0]  # len() would fix it in an export
        masks = mask_decoder(image.expand(-1, count).flatten(), chunk.repeat(images))
        parts.append(masks.view(images, count, *masks.shape[1:]))
    return torch.cat(parts, dim=1)


def _of_images(cells: Cells | None, image: Int[Tensor, " M"]) -> Cells | None:
    return None if cells is None else Cells(cells.valid[image])
