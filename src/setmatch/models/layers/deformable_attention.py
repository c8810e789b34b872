"""Multi-scale deformable attention in plain torch: a query samples a few points per level."""

import copy
import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.layers.point_sampling import PointSampling, sample_gathered, sample_grid
from setmatch.ops.precision import at_least_single


class DeformableAttention(nn.Module):
    """Sample `points` points per level and head, placed relative to the query's box.

    Offsets are in half box sides from the box center (arXiv 2010.04159, equation 3, with the
    box-relative offsets of section A.4).
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        assert dim % heads == 0, "dim is divided evenly among the heads"
        self.heads, self.levels, self.points = heads, levels, points
        self.sample: PointSampling = sample_grid
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention = nn.Linear(dim, heads * levels * points)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.attention.weight)
        nn.init.zeros_(self.attention.bias)
        with torch.no_grad():
            self.offsets.bias.copy_(self._star().flatten())

    def forward(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the weighted sum of the values at its points; 0 outside."""
        places, weights = self.sampling_points(query, cxcywh)
        value = at_least_single(self.value(memory.tokens))
        if memory.valid is not None:
            value = value.masked_fill(~memory.valid[..., None], 0.0)
        if memory.cells is not None:
            ratio = torch.stack([cells.ratio(places.dtype) for cells in memory.cells], dim=1)
            places = places * ratio[:, None, None, :, None]
        return self.out(self.sample(value, places, weights, memory.shapes))

    def plain(self) -> "DeformableAttention":
        """Return the same attention, sampled by operations that every runtime has."""
        same = copy.copy(self)
        same.sample = sample_gathered
        return same

    def sampling_points(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"]
    ) -> tuple[Float[Tensor, "B Q H L P 2"], Float[Tensor, "B Q H L P"]]:
        """Return the points (x, y as fractions of the image) and their weights."""
        spread = (self.heads, self.levels, self.points)
        offsets = at_least_single(self.offsets(query).unflatten(-1, (*spread, 2)))
        box = at_least_single(cxcywh)[:, :, None, None, None]
        places = box[..., :2] + offsets * box[..., 2:] / 2
        logits = at_least_single(self.attention(query).unflatten(-1, (self.heads, -1)))
        return places, logits.softmax(-1).view(*query.shape[:2], *spread)

    def _star(self) -> Float[Tensor, "H L P 2"]:
        """Initialize offsets: one direction per head, points in even steps up to the box border."""
        angle = torch.arange(self.heads) * 2 * math.pi / self.heads
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        step = torch.arange(1, self.points + 1) / self.points
        star = direction[:, None, None] * step[:, None]
        return star.expand(self.heads, self.levels, self.points, 2)
