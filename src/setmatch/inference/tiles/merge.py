"""Merge what a model detects in overlapping parts of an image.

In one view, a set prediction has each object once: there is nothing to suppress, however close two
objects are. Only detections of different views can be the same object. A detection that is cut by
the border of its tile gives way to one of the whole object.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_area

from setmatch.inference.tiles.views import View

SAME_OVERLAP = 0.5  # of the smaller box, from which on two detections are of one object
SAME_AREA = 3.0  # ratio of areas; of two whole boxes, a smaller one inside is another object
CUT_WEIGHT = 0.1  # of the score of a detection that is cut
BORDER = 0.01  # of the side of a tile, plus a pixel: a box that ends so near is cut


def merged(
    xyxy_px: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    classes: Int[Tensor, " N"],
    view: Int[Tensor, " N"],
    is_cut: Bool[Tensor, " N"],
) -> Int[Tensor, " K"]:
    """Return which detections of an image to keep, by descending score.

    `view` numbers the view of each. Greedy: the best detection of an object removes the others of
    its class in other views. Two detections are of one object if they share SAME_OVERLAP of the
    smaller box, and the boxes are of similar size or one is cut.
    """
    order = torch.where(is_cut, CUT_WEIGHT * scores, scores).argsort(descending=True, stable=True)
    boxes, kind, seen_in, cut = xyxy_px[order], classes[order], view[order], is_cut[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    area = box_area(boxes)
    smaller = torch.minimum(area[:, None], area[None, :])
    larger = torch.maximum(area[:, None], area[None, :])
    similar = (larger <= SAME_AREA * smaller) | cut[:, None] | cut[None, :]
    same = (shared >= SAME_OVERLAP * smaller) & (smaller > 0) & similar
    same &= (kind[:, None] == kind[None, :]) & (seen_in[:, None] != seen_in[None, :])
    earlier = same.tril(-1)  # column j removes row i only if it comes first
    kept = torch.ones_like(cut)
    while True:  # at most as often as detections remove each other in a chain
        again = ~(earlier & kept).any(dim=1)
        if torch.equal(again, kept):
            break
        kept = again
    chosen = order[kept]
    return chosen[scores[chosen].argsort(descending=True, stable=True)]


def cut_by_border(
    xyxy_px: Float[Tensor, "N 4"], view: View, size_px: tuple[int, int]
) -> Bool[Tensor, " N"]:
    """Return which boxes end at a border of the view that is inside of the image."""
    height, width = size_px
    tall, wide = view.size_px
    near_x, near_y = 1 + BORDER * wide, 1 + BORDER * tall
    x0, y0, x1, y1 = xyxy_px.unbind(1)
    cut = torch.zeros(len(xyxy_px), dtype=torch.bool, device=xyxy_px.device)
    if view.x0 > 0:
        cut |= x0 <= view.x0 + near_x
    if view.y0 > 0:
        cut |= y0 <= view.y0 + near_y
    if view.x1 < width:
        cut |= x1 >= view.x1 - near_x
    if view.y1 < height:
        cut |= y1 >= view.y1 - near_y
    return cut


def in_image(xyxy_px: Float[Tensor, "N 4"], view: View) -> Float[Tensor, "N 4"]:
    """Return boxes in pixels of a view in those of the image."""
    return xyxy_px + xyxy_px.new_tensor([view.x0, view.y0, view.x0, view.y0])


def best(scores: Sequence[Tensor], most: int) -> list[Tensor]:
    """Return which detections of each view are among the `most` best of all."""
    together = torch.cat(list(scores))
    if len(together) <= most:
        return [torch.ones_like(each, dtype=torch.bool) for each in scores]
    least = together.topk(most).values[-1]
    return [each >= least for each in scores]
