"""The loss of masks: focal and DICE, a few at a time, so that full size costs little memory."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from setmatch.masks import PackedMasks

AT_ONCE = 8  # masks in full size at any time
ALPHA = 0.25  # how much a pixel of the object weighs, of 1
GAMMA = 2


def focal_and_dice(logits: Float[Tensor, "M h w"], owed: PackedMasks) -> Float[Tensor, "2 M"]:
    """Return the focal and the DICE loss of each mask; logits are stretched to the size owed.

    Focal: arXiv 1708.02002, equation 5, mean over pixels. DICE: arXiv 1606.04797, section 3, with 1
    added above and below. What is in full size is made again for the gradient.
    """
    # The first holds no mask, but lets a head that was asked for none have gradients: zeros.
    parts = [logits.sum() * logits.new_zeros(2, 0)]
    for start in range(0, len(logits), AT_ONCE):
        some = PackedMasks(owed.bits[start : start + AT_ONCE], owed.width_px)
        parts.append(
            checkpoint(_in_full_size, logits[start : start + AT_ONCE], some, use_reentrant=False)
        )
    return torch.cat(parts, dim=1)


def _in_full_size(logits: Float[Tensor, "M h w"], owed: PackedMasks) -> Float[Tensor, "2 M"]:
    there = owed.unpack()
    grown = F.interpolate(logits[:, None], size=there.shape[1:], mode="bilinear")[:, 0]
    right = torch.where(there, grown, -grown)  # the logit of being right about a pixel
    weight = torch.where(there, ALPHA, 1 - ALPHA) * (-right).sigmoid() ** GAMMA
    focal = -(weight * F.logsigmoid(right)).mean((1, 2))
    share = grown.sigmoid()
    common, both = (share * there).sum((1, 2)), share.sum((1, 2)) + there.sum((1, 2))
    return torch.stack([focal, 1 - (2 * common + 1) / (both + 1)])
