"""Multi-scale deformable attention in plain torch: a query samples a few points per level."""

import copy
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention.point_sampling import (
    PointSampling,
    cells_around,
    sample_gathered,
    sample_grid,
    weighted_tokens,
)
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.ops.precision import at_least_single

NARROW = 64  # features of models for which sampling whole tokens is faster than projecting all


class PointAttention(nn.Module):
    """What all deformable attention has: two linear layers, for the points and their weights.

    There are `points[l]` points on each level l per head. Their offsets start in one direction per
    head, `steps` away from the center.
    """

    def __init__(
        self, dim: int, heads: int, points: Sequence[int], steps: Float[Tensor, " P"]
    ) -> None:
        super().__init__()
        assert dim % heads == 0, "dim is divided evenly among the heads"
        self.heads, self.points = heads, list(points)
        self.sample: PointSampling = sample_grid
        self.offsets = nn.Linear(dim, heads * sum(points) * 2)
        self.attention = nn.Linear(dim, heads * sum(points))
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.attention.weight)
        nn.init.zeros_(self.attention.bias)
        with torch.no_grad():
            self.offsets.bias.copy_((_directions(heads)[:, None] * steps[:, None]).flatten())

    def plain(self) -> nn.Module:
        """Return the same attention, sampled by operations that every runtime has."""
        same = copy.copy(self)
        same.sample = sample_gathered if self.sample is sample_grid else self.sample
        return same


def _directions(heads: int) -> Float[Tensor, "H 2"]:
    """Return directions evenly around the center, each up to the border of a square."""
    angle = torch.arange(heads) * 2 * math.pi / heads
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    return direction / direction.abs().amax(-1, keepdim=True)


class DeformableAttention(PointAttention):
    """Sample `points` points per level and head, placed relative to the query's box.

    Offsets are in half box sides from the box center (arXiv 2010.04159, equation 3, with the
    box-relative offsets of section A.4). They start in even steps up to the border of the box.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        steps = torch.arange(1, points + 1) / points
        super().__init__(dim, heads, [points] * levels, steps.repeat(levels))
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the weighted sum of the values at its points; 0 outside."""
        places, weights = self.sampling_points(query, cxcywh, memory)
        value = at_least_single(self.value(memory.tokens))
        if memory.valid is not None:
            value = value.masked_fill(~memory.valid[..., None], 0.0)
        places = on_maps(places, memory)
        return self.out(self.sample(value, places, weights, memory.shapes))

    def plain(self) -> nn.Module:
        """Return the same attention, sampled by operations that every runtime has."""
        is_narrow = self.value.in_features <= NARROW
        return SampledBeforeProjection(self) if is_narrow else super().plain()

    def sampling_points(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> tuple[Float[Tensor, "B Q H L P 2"], Float[Tensor, "B Q H L P"]]:
        """Return the points (x, y as fractions of the image) and their weights."""
        spread = (self.heads, len(self.points), self.points[0])
        offsets = at_least_single(self.offsets(query).unflatten(-1, (*spread, 2)))
        box = at_least_single(cxcywh)[:, :, None, None, None]
        places = box[..., :2] + offsets * box[..., 2:] / 2
        logits = at_least_single(self.attention(query).unflatten(-1, (self.heads, -1)))
        return places, logits.softmax(-1).view(*query.shape[:2], *spread)


class SampledBeforeProjection(nn.Module):
    """Deformable attention that samples the memory itself, and projects what is sampled.

    Both projections, of the memory and of the output, are linear. So one matrix applied to each
    head's sum of tokens does the work of both, and no token is projected that no query samples.
    Each head samples whole tokens, which for wide models takes longer than to project all of them.
    """

    def __init__(self, attention: DeformableAttention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.sampling_points = attention.sampling_points
        with torch.no_grad():
            value, out = attention.value, attention.out
            read = torch.cat([value.weight, value.bias[:, None]], dim=1).double()
            read = torch.unflatten(read, 0, (self.heads, -1))
            write = torch.unflatten(out.weight.double(), 1, (self.heads, -1))
            joint = torch.einsum("ohd,hdi->ohi", write, read).flatten(1)
        self.project = nn.Linear(joint.shape[1], joint.shape[0], device="meta")
        self.project.weight = nn.Parameter(joint.to(out.weight.dtype), requires_grad=False)
        self.project.bias = nn.Parameter(out.bias.detach(), requires_grad=False)

    def forward(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the weighted sum of the values at its points; 0 outside."""
        places, weights = self.sampling_points(query, cxcywh, memory)
        index, weight = cells_around(on_maps(places, memory), weights, memory.shapes)
        if memory.valid is not None:
            weight = weight * memory.valid.gather(1, index.long().flatten(1)).view(index.shape)
        sums = weighted_tokens(memory.tokens, index, weight)
        # The bias of the value projection counts as often as there are values.
        return self.project(torch.cat([sums, weight.sum(-1, keepdim=True)], dim=-1).flatten(2))


def on_maps(places: Float[Tensor, "B Q H L P 2"], memory: Memory) -> Tensor:
    """Return places as fractions of images as fractions of the maps, which may be padded."""
    if memory.cells is None:
        return places
    ratio = torch.stack([cells.ratio(places.dtype) for cells in memory.cells], dim=1)
    return places * ratio[:, None, None, :, None]
