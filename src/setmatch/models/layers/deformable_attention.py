"""Multi-scale deformable attention in plain torch: a query looks at a few points of every level."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.ops.precision import at_least_single


class DeformableAttention(nn.Module):
    """Look at `points` places per level and head, placed relative to the query's box.

    Offsets count in half boxes from its center, so that a query looks around what it answers for
    (arXiv 2010.04159, equation 3, with the box-relative offsets of section A.4).
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        assert dim % heads == 0, "the heads share the width evenly"
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
        """Return for every query the mix of what lies at its points; off the canvas lies zero."""
        places, weights = self.look(query, cxcywh)
        value = at_least_single(self.value(memory.tokens))
        if memory.valid is not None:
            value = value.masked_fill(~memory.valid[..., None], 0.0)
        batch, queries, dim = query.shape
        grid = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # level, B·H, Q, P, xy
        share = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]
        mixed = value.new_zeros(batch * self.heads, dim // self.heads, queries)
        sizes = [height * width for height, width in memory.shapes]
        for level, tokens in enumerate(torch.split(value, sizes, dim=1)):
            picture = tokens.transpose(1, 2).reshape(
                batch * self.heads, dim // self.heads, *memory.shapes[level]
            )
            seen = F.grid_sample(picture, grid[level], align_corners=False)
            mixed = mixed + (seen * share[level]).sum(-1)
        return self.out(mixed.view(batch, dim, queries).transpose(1, 2))

    def look(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"]
    ) -> tuple[Float[Tensor, "B Q H L P 2"], Float[Tensor, "B Q H L P"]]:
        """Return where each query looks (x, y as fractions of the canvas), and how much there."""
        spread = (self.heads, self.levels, self.points)
        offsets = at_least_single(self.offsets(query).unflatten(-1, (*spread, 2)))
        box = at_least_single(cxcywh)[:, :, None, None, None]
        places = box[..., :2] + offsets * box[..., 2:] / 2
        affinity = at_least_single(self.attention(query).unflatten(-1, (self.heads, -1)))
        return places, affinity.softmax(-1).view(*query.shape[:2], *spread)

    def _star(self) -> Float[Tensor, "H L P 2"]:
        """Start with each head looking its own way, each point a step further, up to the border."""
        angle = torch.arange(self.heads) * 2 * math.pi / self.heads
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        step = torch.arange(1, self.points + 1) / self.points
        star = direction[:, None, None] * step[:, None]
        return star.expand(self.heads, self.levels, self.points, 2)
