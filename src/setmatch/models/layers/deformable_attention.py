"""Multi-scale deformable attention in plain torch: a query samples a few points per level."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.hybrid_encoder import Memory
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
        batch, queries, dim = query.shape
        grid = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # level, B·H, Q, P, xy
        level_weights = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]
        output = value.new_zeros(batch * self.heads, dim // self.heads, queries)
        sizes = [height * width for height, width in memory.shapes]
        for level, tokens in enumerate(torch.split(value, sizes, dim=1)):
            feature_map = tokens.transpose(1, 2).reshape(
                batch * self.heads, dim // self.heads, *memory.shapes[level]
            )
            sampled = F.grid_sample(feature_map, grid[level], align_corners=False)
            output = output + (sampled * level_weights[level]).sum(-1)
        return self.out(output.view(batch, dim, queries).transpose(1, 2))

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
