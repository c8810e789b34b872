"""Merge what a model detects in overlapping parts of an image.

In one view, a set prediction has each object once: there is nothing to suppress, however close two
objects are. Only detections of different views can be the same object. A detection that is cut by
the border of its tile gives way to one of the whole object.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.ops import box_area

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
    xyxy_px: Float[Tensor, "N 4"], view_px: Int[Tensor, "N 4"], size_px: tuple[int, int]
) -> Bool[Tensor, " N"]:
    """Return which boxes end at a border of their view that is inside of the image.

    `view_px` has the corners (x0, y0, x1, y1) of each box' view, `size_px` the image's height and
    width.
    """
    height, width = size_px
    near: Float[Tensor, "N 2"] = 1 + BORDER * (view_px[:, 2:] - view_px[:, :2])
    first = (view_px[:, :2] > 0) & (xyxy_px[:, :2] <= view_px[:, :2] + near)
    inside = view_px[:, 2:] < view_px.new_tensor([width, height])
    last = inside & (xyxy_px[:, 2:] >= view_px[:, 2:] - near)
    return (first | last).any(dim=1)


def best(scores: Float[Tensor, " N"], most: int) -> Int[Tensor, " K"]:
    """Return which detections are among the `most` best, in their order."""
    if len(scores) <= most:
        return torch.arange(len(scores), device=scores.device)
    return (scores >= scores.topk(most).values[-1]).nonzero().squeeze(1)
