"""Box regression losses of the matched pairs, per decoder layer (arXiv 2005.12872, section 3.1)."""

from jaxtyping import Float
from torch import Tensor

from setmatch.losses.base import MatchedPredictions
from setmatch.ops.boxes import generalized_iou


def l1_loss(matched: MatchedPredictions) -> Float[Tensor, " L"]:
    """Return the L1 distance of predicted and target cxcywh, summed, per target box of the step."""
    distance = (matched.predicted_cxcywh - matched.target_cxcywh).abs()
    return distance.view(matched.layers, -1).sum(1) / matched.num_boxes


def giou_loss(matched: MatchedPredictions) -> Float[Tensor, " L"]:
    """Return 1 - GIoU, summed, per target box of the step (arXiv 1902.09630)."""
    giou = generalized_iou(matched.predicted_xyxy, matched.target_xyxy)
    return (1 - giou.view(matched.layers, -1)).sum(1) / matched.num_boxes
