"""The terms of the set loss: those that are trained, and those that are only logged."""

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.losses.base import LossTerm, MatchedPredictions
from setmatch.losses.box_distribution import distillation_loss, edge_loss
from setmatch.losses.boxes import giou_loss, l1_loss


def classification_loss(matched: MatchedPredictions) -> Float[Tensor, " L"]:
    """Return the class loss of each layer, as the model's ClassificationLoss defines it."""
    return matched.class_loss.loss(matched.logits, matched.pairs, matched.normalizer)


@torch.no_grad()
def class_error(matched: MatchedPredictions) -> Float[Tensor, ""]:
    """Return the percentage of the last layer's matched queries whose class is wrong."""
    pairs = matched.pairs
    last = pairs.layer == matched.layers - 1
    predicted = matched.logits[-1].argmax(-1)[pairs.image, pairs.query]
    wrong = (predicted != pairs.class_index) & last
    return 100 * wrong.sum() / matched.normalizer.matched.clamp(min=1)


@torch.no_grad()
def cardinality_error(matched: MatchedPredictions) -> Float[Tensor, " L"]:
    """Return the mean absolute difference of detected and annotated object counts per image."""
    logits = matched.logits
    counts = torch.tensor([len(target) for target in matched.targets])
    counts = counts.to(logits.device, non_blocking=True)
    detected = matched.class_loss.predicts_object(logits).sum(-1) / matched.group.query_groups
    return (detected - counts).abs().float().sum(1) / matched.normalizer.images


def mask_focal_loss(matched: MatchedPredictions) -> Float[Tensor, ""] | None:
    """Return the focal loss of the last layer's masks; None if the group predicts no masks."""
    return None if matched.mask_losses is None else matched.mask_losses[0]


def mask_dice_loss(matched: MatchedPredictions) -> Float[Tensor, ""] | None:
    """Return the DICE loss of the last layer's masks; None if the group predicts no masks."""
    return None if matched.mask_losses is None else matched.mask_losses[1]


TERMS = (
    LossTerm("class", "class", classification_loss),
    LossTerm("l1", "l1", l1_loss, pools=True),
    LossTerm("giou", "giou", giou_loss, pools=True),
    LossTerm("class_error", None, class_error),
    LossTerm("cardinality_error", None, cardinality_error),
    LossTerm("mask", "mask", mask_focal_loss),
    LossTerm("dice", "dice", mask_dice_loss),
    LossTerm("edges", "edges", edge_loss, pools=True),
    LossTerm("distillation", "distillation", distillation_loss, pools=True),
)
