"""Boxes as four edges that move by a distribution over bins (arXiv 2410.13842, section 4.1)."""

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.ops.boxes import xyxy_to_cxcywh


def edge_bins(
    count: int, reach: Float[Tensor, "1"], per_side: Float[Tensor, "1"]
) -> Float[Tensor, " count"]:
    """Return how far each of `count` bins moves an edge, in units of a side / `per_side`.

    The middle bin is zero; around it bins lie close together, and further apart towards both ends.
    The last but one on either side moves an edge by `reach` sides, the last by twice as much.
    Source: equation 2.
    """
    reach, per_side = reach.abs(), per_side.abs()
    far = reach * per_side
    steps = torch.arange(1, (count - 1) // 2, device=reach.device)
    right = (far + 1) ** (steps * 2 / (count - 3)) - 1
    return torch.cat([-2 * far, -right.flip(0), torch.zeros_like(far), right, 2 * far])


def move_edges(
    start_cxcywh: Float[Tensor, "*n 4"],
    moves: Float[Tensor, "*n 4"],
    per_side: Float[Tensor, "1"],
) -> Float[Tensor, "*n 4"]:
    """Return boxes whose left, top, right and bottom edges move outwards by `moves`.

    Moves are in units of a side / `per_side`.
    """
    center, sides = start_cxcywh[..., :2], start_cxcywh[..., 2:]
    unit = sides / per_side.abs()
    half = per_side.abs() / 2
    low = center - (half + moves[..., :2]) * unit
    high = center + (half + moves[..., 2:]) * unit
    return xyxy_to_cxcywh(torch.cat([low, high], dim=-1))


def moves_between(
    start_cxcywh: Float[Tensor, "*n 4"],
    xyxy: Float[Tensor, "*n 4"],
    per_side: Float[Tensor, "1"],
) -> Float[Tensor, "*n 4"]:
    """Return the moves of `move_edges` that lead from boxes to others, given as corners."""
    center, sides = start_cxcywh[..., :2], start_cxcywh[..., 2:]
    unit = sides / per_side.abs() + torch.finfo(sides.dtype).tiny
    low, high = (center - xyxy[..., :2]) / unit, (xyxy[..., 2:] - center) / unit
    return torch.cat([low, high], dim=-1) - per_side.abs() / 2
