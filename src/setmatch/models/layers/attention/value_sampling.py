"""Deformable attention with any number of points on each level, with and without projections."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention.deformable_attention import PointAttention
from setmatch.models.layers.attention.point_sampling import sample_levels, sample_nearest
from setmatch.models.layers.cells import Cells
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.ops.precision import at_least_single


class ValueSampling(PointAttention):
    """Sample `points[l]` points of each level l per head, placed relative to the query's box.

    The last offset of a level starts `offset_scale` box sides from the center. Neither the memory
    nor the output are projected (arXiv 2410.13842, section 5.1, after arXiv 2407.17140).
    """

    def __init__(
        self, dim: int, heads: int, points: Sequence[int], offset_scale: float = 0.5
    ) -> None:
        steps = torch.cat([torch.arange(1.0, count + 1) for count in points])
        super().__init__(dim, heads, points, steps)
        self.offset_scale = offset_scale

    def forward(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the weighted sum of the memory at its points; 0 outside."""
        return self.sampled(query, cxcywh, memory.values, memory)

    def sampled(
        self,
        query: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        value: Float[Tensor, "B N D"],
        memory: Memory,
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the weighted sum of the values at its points; 0 outside."""
        places, weights = self.sampling_points(query, cxcywh, memory)
        level_places: Sequence[Tensor] = torch.split(places, self.points, dim=3)
        if memory.cells is not None:
            levels = zip(level_places, memory.cells, strict=True)
            level_places = [self.on_map(level, cells) for level, cells in levels]
        level_weights = torch.split(weights, self.points, dim=3)
        return sample_levels(value, level_places, level_weights, memory.shapes, self.sample)

    def on_map(self, places: Float[Tensor, "B Q H P 2"], cells: Cells) -> Tensor:
        """Return places on images as places on the padded map, both as fractions."""
        return places * cells.ratio(places.dtype)[:, None, None, None]

    def sampling_points(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> tuple[Float[Tensor, "B Q H P 2"], Float[Tensor, "B Q H P"]]:
        """Return the points (x, y as fractions of the image), level by level, and their weights."""
        offsets = torch.unflatten(at_least_single(self.offsets(query)), -1, (self.heads, -1, 2))
        box = at_least_single(cxcywh)[:, :, None, None]
        places = box[..., :2] + self.moved(offsets, box, memory)
        logits = torch.unflatten(at_least_single(self.attention(query)), -1, (self.heads, -1))
        return places, logits.softmax(-1)

    def moved(
        self,
        offsets: Float[Tensor, "B Q H P 2"],
        cxcywh: Float[Tensor, "B Q 1 1 4"],
        memory: Memory,
    ) -> Float[Tensor, "B Q H P 2"]:
        """Return how far points are from the center of the box, as fractions of the image."""
        step = torch.cat([offsets.new_full((count, 1), 1 / count) for count in self.points])
        return offsets * step * cxcywh[..., 2:] * self.offset_scale


class ProjectedSampling(ValueSampling):
    """The same between two projections, of the memory and of what is sampled from it.

    With as many points on every level it is arXiv 2304.08069's, otherwise arXiv 2407.17140's.
    """

    def __init__(
        self, dim: int, heads: int, points: Sequence[int], offset_scale: float = 0.5
    ) -> None:
        super().__init__(dim, heads, points, offset_scale)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        for projection in (self.value, self.out):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self, query: Float[Tensor, "B Q D"], cxcywh: Float[Tensor, "B Q 4"], memory: Memory
    ) -> Float[Tensor, "B Q D"]:
        """Return for every query the projected sum of the values at its points."""
        value = memory.on_images(self.value(memory.tokens))
        return self.out(self.sampled(query, cxcywh, value, memory))


class NearestSampling(ProjectedSampling):
    """The same with the nearest cell of each point (arXiv 2407.17140, discrete sampling).

    Cells give no gradient to the offsets of points, which are not trained.
    """

    def __init__(
        self, dim: int, heads: int, points: Sequence[int], offset_scale: float = 0.5
    ) -> None:
        super().__init__(dim, heads, points, offset_scale)
        self.sample = sample_nearest
        self.offsets.requires_grad_(False)

    def on_map(self, places: Float[Tensor, "B Q H P 2"], cells: Cells) -> Tensor:
        """Return places on images as places on the padded map, none of them beyond the image."""
        last = 1 - 1 / cells.valid_wh.to(places.dtype)[:, None, None, None]
        return super().on_map(torch.minimum(places, last), cells)


class CellSampling(ProjectedSampling):
    """The same around points: an offset of 1 is one cell of its level (arXiv 2010.04159, eq. 3).

    Of a box the center alone counts.
    """

    def moved(
        self,
        offsets: Float[Tensor, "B Q H P 2"],
        cxcywh: Float[Tensor, "B Q 1 1 4"],
        memory: Memory,
    ) -> Float[Tensor, "B Q H P 2"]:
        """Return how far points are from the given ones, as fractions of the image."""
        sides = memory.level_sides(offsets)
        every = [sides[:, [at]].expand(-1, count, -1) for at, count in enumerate(self.points)]
        return offsets / torch.cat(every, dim=1)[:, None, None]
