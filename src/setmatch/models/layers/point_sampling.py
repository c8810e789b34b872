"""Ways to sample feature maps at points: between cells, or the nearest cell.

Between cells there are two, the fast one here and the one for other runtimes, which differ by
rounding alone: both are bilinear with zeros outside the map.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Shapes = tuple[tuple[int, int], ...]  # height, width of each level
PointSampling = Callable[[Tensor, Tensor, Tensor, Shapes], Tensor]


def sample_grid(
    value: Float[Tensor, "B N D"],
    places: Float[Tensor, "B Q H L P 2"],
    weights: Float[Tensor, "B Q H L P"],
    shapes: Shapes,
) -> Float[Tensor, "B Q D"]:
    """Return for every query the weighted sum of the values at its places, by `grid_sample`.

    Places are x, y as fractions of the map; `value` has the tokens of all levels, one by one.
    """
    batch, _, dim = value.shape
    queries, heads = places.shape[1:3]
    grid = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # level, B·H, Q, P, xy
    level_weights = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)[:, :, None]
    output = value.new_zeros(batch * heads, dim // heads, queries)
    sizes = [height * width for height, width in shapes]
    for level, tokens in enumerate(torch.split(value, sizes, dim=1)):
        feature_map = tokens.transpose(1, 2).reshape(batch * heads, dim // heads, *shapes[level])
        sampled = F.grid_sample(feature_map, grid[level], align_corners=False)
        output = output + (sampled * level_weights[level]).sum(-1)
    return output.view(batch, dim, queries).transpose(1, 2)


def sample_gathered(
    value: Float[Tensor, "B N D"],
    places: Float[Tensor, "B Q H L P 2"],
    weights: Float[Tensor, "B Q H L P"],
    shapes: Shapes,
) -> Float[Tensor, "B Q D"]:
    """Return the same as `sample_grid`, by indexing: for exported models.

    Some runtimes compute GridSample wrongly or not at all. No tensor has more than six axes:
    OpenVINO computes wrongly with seven, as soon as a size is dynamic. With small models this takes
    up to three times as long in PyTorch.
    """
    sides, start = _sides_and_starts(shapes, places)
    place = places.flatten(0, 1) * sides - 0.5
    low = place.floor()
    part = place - low
    cell = torch.stack([low, low + 1], dim=-2)  # B·Q H L P corner xy
    near = torch.stack([1 - part, part], dim=-2)
    last = sides[..., None, :] - 1
    near = near * ((cell >= 0) & (cell <= last))
    cell = torch.minimum(cell.clamp(min=0), last)
    x, y = cell.unbind(-1)
    index = start + y[..., :, None] * sides[..., :1, None] + x[..., None, :]
    weight = weights.flatten(0, 1)[..., None, None] * near[..., 1][..., :, None]
    weight = weight * near[..., 0][..., None, :]
    every = (*weights.shape[:3], -1)
    return _weighted_rows(value, index.view(every), weight.reshape(every))


def sample_nearest(
    value: Float[Tensor, "B N D"],
    places: Float[Tensor, "B Q H L P 2"],
    weights: Float[Tensor, "B Q H L P"],
    shapes: Shapes,
) -> Float[Tensor, "B Q D"]:
    """Return for every query the weighted sum of single cells, by indexing.

    Places x, y outside of the map count as its border. As published (arXiv 2407.17140, discrete
    sampling), the place of a cell is that of its left upper corner.
    """
    sides, start = _sides_and_starts(shapes, places)
    cell = torch.minimum((places * sides + 0.5).floor().clamp(min=0), sides - 1)
    x, y = cell.unbind(-1)
    index = start[..., 0, 0] + y * sides[..., 0] + x
    return _weighted_rows(value, index.flatten(3), weights.flatten(3))


def _weighted_rows(
    value: Float[Tensor, "B N D"], index: Float[Tensor, "B Q H K"], weight: Float[Tensor, "B Q H K"]
) -> Float[Tensor, "B Q D"]:
    """Return the weighted sum of each head's part of the indexed tokens."""
    batch, tokens, dim = value.shape
    queries, heads = index.shape[1:3]
    image = torch.arange(batch, device=value.device)[:, None, None, None]
    head = torch.arange(heads, device=value.device)[:, None]
    row = (image * tokens + index.long()) * heads + head
    rows = value.reshape(batch * tokens * heads, dim // heads).index_select(0, row.flatten())
    sums = weight.reshape(batch * queries * heads, 1, -1) @ rows.view(
        batch * queries * heads, -1, dim // heads
    )
    return sums.view(batch, queries, dim)


def _sides_and_starts(
    shapes: Shapes, like: Tensor
) -> tuple[Float[Tensor, "L 1 2"], Float[Tensor, "L 1 1 1"]]:
    """Return width and height of each level, and the number of its first token."""
    starts = [0]
    for height, width in shapes[:-1]:
        starts.append(starts[-1] + height * width)
    # Scalars one by one: in an exported model, sizes are not known when it is written.
    sides = [like.new_full((), side) for height, width in shapes for side in (width, height)]
    first = [like.new_full((), start) for start in starts]
    return torch.stack(sides).view(-1, 1, 2), torch.stack(first).view(-1, 1, 1, 1)
