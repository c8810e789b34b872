"""Ways to sample feature maps at points: between cells, or the nearest cell.

Between cells there are three, for GPUs, for CPUs and for other runtimes, which differ by rounding
alone: all are bilinear with zeros outside the map.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from jaxtyping import Float, Real
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

    Some runtimes compute GridSample wrongly or not at all. With small models this takes longer in
    PyTorch.
    """
    return _weighted_rows(value, *cells_around(places, weights, shapes))


def sample_levels(
    value: Float[Tensor, "B N D"],
    places: Sequence[Float[Tensor, "B Q H _ 2"]],
    weights: Sequence[Float[Tensor, "B Q H _"]],
    shapes: Shapes,
    sample: PointSampling,
) -> Float[Tensor, "B Q D"]:
    """Return for every query the weighted sum of the values at its places on all levels.

    Levels may have different numbers of places. On a CPU, sums of rows take the place of
    `sample_grid`, as they need no map of each head.
    """
    levels = [
        (level_places[:, :, :, None], level_weights[:, :, :, None], (shape,))
        for level_places, level_weights, shape in zip(places, weights, shapes, strict=True)
    ]
    sizes = [height * width for height, width in shapes]
    if sample is sample_grid and value.device.type == "cpu":
        around = [cells_around(*level) for level in levels]
        starts = [sum(sizes[:level]) for level in range(len(sizes))]
        index = [cells + start for (cells, _), start in zip(around, starts, strict=True)]
        return _summed_rows(
            value, torch.cat(index, dim=-1), torch.cat([weight for _, weight in around], dim=-1)
        )
    parts = zip(torch.split(value, sizes, dim=1), levels, strict=True)
    return reduce(torch.add, [sample(tokens, *level) for tokens, level in parts])


def _summed_rows(
    value: Float[Tensor, "B N D"], index: Float[Tensor, "B Q H K"], weight: Float[Tensor, "B Q H K"]
) -> Float[Tensor, "B Q D"]:
    """Return the weighted sum of each head's part of the indexed tokens, by `embedding_bag`."""
    batch, tokens, _ = value.shape
    heads = index.shape[2]
    image = torch.arange(batch)[:, None, None, None]
    part = (image * tokens + index.long().clamp(min=0)) * heads + torch.arange(heads)[:, None]
    rows = value.reshape(batch * tokens * heads, -1)
    sums = F.embedding_bag(
        part.flatten(0, 2), rows, mode="sum", per_sample_weights=weight.flatten(0, 2)
    )
    return sums.view(batch, index.shape[1], -1)


def cells_around(
    places: Float[Tensor, "B Q H L P 2"], weights: Float[Tensor, "B Q H L P"], shapes: Shapes
) -> tuple[Float[Tensor, "B Q H K"], Float[Tensor, "B Q H K"]]:
    """Return the numbers of the four tokens around each place, and their bilinear weights.

    Tokens outside of the map weigh nothing. Both coordinates are tensors of their own, with all
    points on the last axis: runtimes are slow with short axes, and OpenVINO computes wrongly with
    more than six.
    """
    width, height, first = _levels(shapes, places)
    x, y = places.flatten(3, 4).unbind(-1)
    left, right, near_left, near_right = _neighbors(x * width - 0.5, width - 1)
    upper, lower, near_upper, near_lower = _neighbors(y * height - 0.5, height - 1)
    flat = weights.flatten(3)
    index, weight = [], []
    for row, near_row in ((upper, near_upper), (lower, near_lower)):
        row_start, row_weight = first + row * width, flat * near_row
        for column, near_column in ((left, near_left), (right, near_right)):
            index.append(row_start + column)
            weight.append(row_weight * near_column)
    return torch.cat(index, dim=-1), torch.cat(weight, dim=-1)


def _neighbors(
    place: Float[Tensor, "*n K"], last: Float[Tensor, " K"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return two neighboring cells on an axis, `last` at most, and how near each place is to them.

    A cell is nearest at a distance of 0, and weighs nothing from 1 on. These cells are the only
    ones that are nearer to the place, outside of the map, too.
    """
    low = torch.minimum(place.floor().clamp(min=0), (last - 1).clamp(min=0))
    high = torch.minimum(low + 1, last)
    near_low = (1 - (place - low).abs()).clamp(min=0)
    near_high = (1 - (place - high).abs()).clamp(min=0) * (high - low)  # 0 if there is one cell
    return low, high, near_low, near_high


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
    width, height, first = _levels(shapes, places)
    x, y = places.flatten(3, 4).unbind(-1)
    column = torch.minimum((x * width + 0.5).floor().clamp(min=0), width - 1)
    row = torch.minimum((y * height + 0.5).floor().clamp(min=0), height - 1)
    return _weighted_rows(value, first + row * width + column, weights.flatten(3))


def _weighted_rows(
    value: Float[Tensor, "B N D"], index: Float[Tensor, "B Q H K"], weight: Float[Tensor, "B Q H K"]
) -> Float[Tensor, "B Q D"]:
    """Return the weighted sum of each head's part of the indexed tokens."""
    batch, tokens, dim = value.shape
    heads = index.shape[2]
    head = torch.arange(heads, device=value.device)[:, None]
    parts = value.reshape(batch, tokens * heads, dim // heads)
    return weighted_tokens(parts, index.long() * heads + head, weight).flatten(2)


def weighted_tokens(
    tokens: Float[Tensor, "B N D"],
    index: Real[Tensor, "B Q H K"],
    weight: Float[Tensor, "B Q H K"],
) -> Float[Tensor, "B Q H D"]:
    """Return the weighted sum of the indexed tokens for each head."""
    batch, count, dim = tokens.shape
    points = index.shape[3]
    image = torch.arange(batch, device=tokens.device)[:, None, None, None]
    rows = tokens.flatten(0, 1).index_select(0, (image * count + index.long()).flatten())
    sums = weight.reshape(-1, 1, points) @ rows.view(-1, points, dim)
    return sums.view(*index.shape[:3], dim)


def _levels(
    shapes: Shapes, places: Float[Tensor, "B Q H L P 2"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"], Float[Tensor, " K"]]:
    """Return width, height and first token of the level of each of a head's points."""
    starts = [0]
    for height, width in shapes[:-1]:
        starts.append(starts[-1] + height * width)
    heights, widths = zip(*shapes, strict=True)

    def of_points(sizes: Sequence[int]) -> Tensor:
        # Scalars one by one: in an exported model, sizes are not known when it is written.
        each_level = torch.stack([places.new_full((), size) for size in sizes])
        return each_level[:, None].expand(-1, places.shape[4]).flatten()

    return of_points(widths), of_points(heights), of_points(starts)
