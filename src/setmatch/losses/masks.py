"""The loss of masks: focal and DICE, a few at a time, so that full size costs little memory."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from setmatch.structures.packed_masks import PackedMasks

AT_ONCE_PX = 2**16  # of masks in full size at any time: what a processor's cache can hold
ALPHA = 0.25  # how much a pixel of the object weighs, of 1; gamma is 2


def focal_and_dice(logits: Float[Tensor, "M h w"], owed: PackedMasks) -> Float[Tensor, "2 M"]:
    """Return the focal and the DICE loss of each mask; logits are stretched to the size owed.

    Focal: arXiv 1708.02002, equation 5, mean over pixels. DICE: arXiv 1606.04797, section 3, with 1
    added above and below.
    """
    losses: Float[Tensor, "2 M"] = _InFullSize.apply(logits, owed)
    return losses


class _InFullSize(torch.autograd.Function):
    """Both losses with their gradients, found while the masks are in full size.

    They are kept in the size of the logits, so that a step holds nothing in full size and makes
    nothing there twice. A matrix for each axis stretches many times as fast as interpolation does,
    above all backwards.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Float[Tensor, "M h w"], owed: PackedMasks
    ) -> Float[Tensor, "2 M"]:
        height, width = owed.bits.shape[1], owed.width_px
        rows, columns = _stretch(logits, 1, height), _stretch(logits, 2, width)
        losses = logits.new_empty(2, len(logits))
        gradients = logits.new_empty(2, *logits.shape)
        step = max(AT_ONCE_PX // (height * width), 1)
        for first in range(0, len(logits), step):
            some = slice(first, first + step)
            there = PackedMasks(owed.bits[some], width).unpack()
            grown = rows @ (logits[some] @ columns.T)
            losses[:, some], slopes = _losses_and_slopes(grown, there)
            gradients[:, some] = rows.T @ slopes @ columns
        ctx.save_for_backward(gradients)
        return losses

    @staticmethod
    def backward(ctx: Any, weights: Float[Tensor, "2 M"]) -> tuple[Float[Tensor, "M h w"], None]:
        (gradients,) = ctx.saved_tensors
        return (weights[..., None, None] * gradients).sum(0), None


def _losses_and_slopes(
    grown: Float[Tensor, "m H W"], there: Bool[Tensor, "m H W"]
) -> tuple[Float[Tensor, "2 m"], Float[Tensor, "2 m H W"]]:
    """Return the losses of masks in full size, and their derivatives by each logit."""
    against = torch.where(there, -grown, grown)  # the logit of being wrong about a pixel
    wrong = against.sigmoid()
    surprise = F.softplus(against)
    weight = torch.where(there, -ALPHA, 1 - ALPHA)  # its sign is that of the derivative
    weight = weight.mul_(wrong).mul_(wrong)
    right = 1 - wrong
    owed = there.sum((1, 2))
    missed, both = (wrong * there).sum((1, 2)), wrong.sum((1, 2))
    common, total = owed - missed, 2 * owed - 2 * missed + both
    losses = torch.stack(
        [(weight.abs() * surprise).mean((1, 2)), 1 - (2 * common + 1) / (total + 1)]
    )
    slopes = grown.new_empty(2, *grown.shape)
    pixels = grown[0].numel()
    torch.mul(weight, (2 * right).mul_(surprise).add_(wrong), out=slopes[0]).div_(pixels)
    elsewhere = ((2 * common + 1) / (total + 1) ** 2)[:, None, None]
    inside = elsewhere - 2 / (total + 1)[:, None, None]
    torch.mul(torch.where(there, inside, elsewhere), right.mul_(wrong), out=slopes[1])
    return losses, slopes


def _stretch(
    logits: Float[Tensor, "M h w"], axis: int, pixels: int
) -> Float[Tensor, "pixels cells"]:
    """Return how much each pixel of an axis takes from each cell, as F.interpolate takes it."""
    unit = torch.eye(logits.shape[axis], dtype=logits.dtype, device=logits.device)
    return F.interpolate(unit[None], size=pixels, mode="linear")[0].T.contiguous()
