"""Box geometry with broadcasting, which torchvision.ops lacks; all of it is differentiable.

`cxcywh` is center and size, `xyxy` is two corners.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cxcywh_to_xyxy(cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Convert center and size to corners, in the same unit."""
    center, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def xyxy_to_cxcywh(xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """Convert corners to center and size, in the same unit."""
    low, high = xyxy[..., :2], xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def intersection_over_union(
    xyxy: Float[Tensor, "*#n 4"], other_xyxy: Float[Tensor, "*#n 4"]
) -> Float[Tensor, "*n"]:
    """Return the IoU of broadcast boxes; 0 if neither box has an area."""
    overlap, union = _areas(_sides(xyxy), _sides(other_xyxy))
    return overlap / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalized_iou(
    xyxy: Float[Tensor, "*#n 4"], other_xyxy: Float[Tensor, "*#n 4"]
) -> Float[Tensor, "*n"]:
    """Return the generalized IoU of broadcast boxes, in [-1, 1] (arXiv 1902.09630).

    Boxes with x1 < x0 or y1 < y0 do not raise but overlap nothing. Two equal points give -1.
    """
    sides, others = _sides(xyxy), _sides(other_xyxy)
    overlap, union = _areas(sides, others)
    hull = _hull_area(sides, others)
    tiny = torch.finfo(hull.dtype).tiny
    return overlap / union.clamp(min=tiny) + union / hull.clamp(min=tiny) - 1


def _sides(xyxy: Tensor) -> Sequence[Tensor]:
    """Return x0, y0, x1 and y1, each contiguous, since strided values are not vectorized.

    (..., 2) temporaries of what follows would double the memory traffic.
    """
    return xyxy.movedim(-1, 0).contiguous().unbind()


def _areas(sides: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the areas of intersection and union."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = sides, others
    overlap = _length(torch.maximum(x0, u0), torch.minimum(x1, u1)) * _length(
        torch.maximum(y0, v0), torch.minimum(y1, v1)
    )
    return overlap, (x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - overlap


def _hull_area(sides: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Return the area of the smallest enclosing box."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = sides, others
    return _length(torch.minimum(x0, u0), torch.maximum(x1, u1)) * _length(
        torch.minimum(y0, v0), torch.maximum(y1, v1)
    )


def _length(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp(min=0)
