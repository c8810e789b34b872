"""Focal and DICE loss of masks, a few masks at a time to bound memory at full size."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, MaskDecoder, PredictionGroup
from setmatch.structures.packed_masks import PackedMasks, pad_to_batch

MAX_FULL_SIZE_PX = 2**16  # pixels of masks at full size at a time; fits into a CPU's cache
ALPHA = 0.25  # weight of a pixel on the object, 1 - ALPHA of one beside it; gamma is 2


def mask_losses(
    group: PredictionGroup,
    matched: Assignment,
    targets: Sequence[Target],
    num_boxes: Float[Tensor, ""],
) -> Float[Tensor, "2"] | None:
    """Return focal and DICE loss of the matched queries' masks per target box.

    Returns None if the group predicts no masks. As published, masks cover the padded batch, where
    padding has no object. Either all targets have masks or none has. Without masks the losses are
    zero but keep a gradient, so that every parameter has one.
    """
    mask_decoder = group.mask_decoder or _indexing(group.predictions.masks)
    if mask_decoder is None:
        return None
    masks = [target.masks for target in targets if target.masks is not None]
    assert len(masks) in (0, len(targets)), "all images of a data set have masks, or none has"
    if not masks:
        return mask_decoder(matched.image[:0], matched.query[:0]).sum() * num_boxes.new_zeros(2)
    logits = mask_decoder(matched.image, matched.query).float()
    return focal_and_dice(logits, pad_to_batch(masks)[matched.target]).sum(1) / num_boxes


def _indexing(masks: Float[Tensor, "B Q h w"] | None) -> MaskDecoder | None:
    return None if masks is None else lambda image, query: masks[image, query]


def focal_and_dice(logits: Float[Tensor, "M h w"], targets: PackedMasks) -> Float[Tensor, "2 M"]:
    """Return the focal and the DICE loss of each mask, computed at the size of the targets.

    The logits are resized bilinearly. Focal: arXiv 1708.02002, equation 5, mean over pixels. DICE:
    arXiv 1606.04797, section 3, with 1 added to numerator and denominator.
    """
    losses: Float[Tensor, "2 M"] = _FullSizeLosses.apply(logits, targets)
    return losses


class _FullSizeLosses(torch.autograd.Function):
    """Both losses, with gradients computed in the forward pass while masks are at full size.

    Gradients are stored at the size of the logits, so no full-size tensor is kept or computed
    twice. One resize matrix per axis is many times faster than F.interpolate, above all in the
    backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Float[Tensor, "M h w"], targets: PackedMasks
    ) -> Float[Tensor, "2 M"]:
        height, width = targets.bits.shape[1], targets.width_px
        rows, columns = _resize_matrix(logits, 1, height), _resize_matrix(logits, 2, width)
        losses = logits.new_empty(2, len(logits))
        gradients = logits.new_empty(2, *logits.shape)
        step = max(MAX_FULL_SIZE_PX // (height * width), 1)
        for first in range(0, len(logits), step):
            chunk = slice(first, first + step)
            target = PackedMasks(targets.bits[chunk], width).unpack()
            resized = rows @ (logits[chunk] @ columns.T)
            losses[:, chunk], slopes = _losses_and_slopes(resized, target)
            gradients[:, chunk] = rows.T @ slopes @ columns
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, weights: Float[Tensor, "2 M"]) -> tuple[Float[Tensor, "M h w"], None]:
        (gradients,) = ctx.saved_tensors
        return (weights[..., None, None] * gradients).sum(0), None


def _losses_and_slopes(
    logits: Float[Tensor, "m H W"], target: Bool[Tensor, "m H W"]
) -> tuple[Float[Tensor, "2 m"], Float[Tensor, "2 m H W"]]:
    """Return the losses at full size, and their derivatives with respect to each logit."""
    wrong_logit = torch.where(target, -logits, logits)
    wrong = wrong_logit.sigmoid()  # probability of the wrong class of each pixel
    cross_entropy = F.softplus(wrong_logit)
    weight = torch.where(target, -ALPHA, 1 - ALPHA)  # has the sign of the derivative
    weight = weight.mul_(wrong).mul_(wrong)
    right = 1 - wrong
    area = target.sum((1, 2))
    missed, all_wrong = (wrong * target).sum((1, 2)), wrong.sum((1, 2))
    intersection, total = area - missed, 2 * area - 2 * missed + all_wrong
    losses = torch.stack(
        [(weight.abs() * cross_entropy).mean((1, 2)), 1 - (2 * intersection + 1) / (total + 1)]
    )
    slopes = logits.new_empty(2, *logits.shape)
    pixels = logits[0].numel()
    torch.mul(weight, (2 * right).mul_(cross_entropy).add_(wrong), out=slopes[0]).div_(pixels)
    outside = ((2 * intersection + 1) / (total + 1) ** 2)[:, None, None]
    inside = outside - 2 / (total + 1)[:, None, None]
    torch.mul(torch.where(target, inside, outside), right.mul_(wrong), out=slopes[1])
    return losses, slopes


def _resize_matrix(
    logits: Float[Tensor, "M h w"], axis: int, pixels: int
) -> Float[Tensor, "pixels cells"]:
    """Return the weight of each cell in each pixel of an axis, as F.interpolate computes it."""
    identity = torch.eye(logits.shape[axis], dtype=logits.dtype, device=logits.device)
    return F.interpolate(identity[None], size=pixels, mode="linear")[0].T.contiguous()
