"""Losses of models that move the edges of boxes by distributions (arXiv 2410.13842, section 4)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from setmatch.losses.base import MatchedPredictions
from setmatch.ops.edge_bins import moves_between
from setmatch.structures.outputs import EdgeDistributions

TEMPERATURE = 5.0  # of the distributions that are distilled


def edge_loss(matched: MatchedPredictions) -> Float[Tensor, " L"] | None:
    """Return the fine-grained localization loss per target box of the step (equation 5).

    It is the cross-entropy of the two bins around the move to the target, each weighted by how near
    it is, summed over edges and weighted by the IoU of the predicted box. None if the group has no
    distributions.
    """
    edges = _trained(matched)
    if edges is None:
        return None
    pairs = matched.pairs
    start = edges.start_cxcywh[pairs.image, pairs.query].float()
    moves = moves_between(start, matched.target_xyxy, edges.per_side)
    low = torch.searchsorted(edges.bins, moves, right=True) - 1
    low = low.clamp(0, len(edges.bins) - 2)
    below, above = edges.bins[low], edges.bins[low + 1]
    part = ((moves - below) / (above - below)).clamp(0, 1)
    log_probability = edges.logits[pairs.layer, pairs.image, pairs.query].log_softmax(-1)
    near = log_probability.gather(-1, torch.stack([low, low + 1], dim=-1))
    entropy = -(near * torch.stack([1 - part, part], dim=-1)).sum((1, 2))
    return (entropy * pairs.iou).view(matched.layers, -1).sum(1) / matched.num_boxes


def distillation_loss(matched: MatchedPredictions) -> Float[Tensor, " L"] | None:
    """Return the decoupled distillation loss: every layer learns from the last (equation 6).

    It is the divergence of the last layer's distributions from a layer's own, weighted by the IoU
    for matched queries and by the score of the last layer for the others. Both kinds are averaged
    alone, then weighted by the roots of their numbers, which for every group are those of the first
    one, as published. The last layer has no loss. None if the group has no distributions.
    """
    edges = _trained(matched)
    if edges is None:
        return None
    pairs = matched.pairs
    weight = matched.logits[-1].detach().sigmoid().amax(-1).repeat(matched.layers, 1, 1)
    is_matched = torch.zeros_like(weight, dtype=torch.bool)
    weight[pairs.layer, pairs.image, pairs.query] = pairs.iou
    is_matched[pairs.layer, pairs.image, pairs.query] = True
    own = (edges.logits / TEMPERATURE).log_softmax(-1)
    taught = (edges.logits[-1].detach() / TEMPERATURE).log_softmax(-1).expand_as(own)
    divergence = F.kl_div(own, taught, reduction="none", log_target=True).sum(-1).mean(-1)
    loss = TEMPERATURE**2 * weight * divergence
    kinds = matched.normalizer.matched_and_others(weight.shape[2])
    sums = torch.stack([(loss * is_matched).sum((1, 2)), (loss * ~is_matched).sum((1, 2))])
    means = sums / kinds.clamp(min=1)[:, None]
    roots = matched.first_kinds.sqrt()
    return (means * roots[:, None]).sum(0) / roots.sum().clamp(min=1)


def _trained(matched: MatchedPredictions) -> EdgeDistributions | None:
    """Return the distributions of the layers that are trained, in float32."""
    edges = matched.group.edges
    if edges is None:
        return None
    return EdgeDistributions(
        edges.logits[-matched.layers :].float(),
        edges.start_cxcywh.float(),
        edges.bins.float(),
        edges.per_side.float(),
    )
