"""Mask losses: equal to the plain computation, in less memory."""

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from setmatch.losses import masks as mask_loss
from setmatch.losses.masks import focal_and_dice
from setmatch.structures.packed_masks import PackedMasks


def _masks(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 9, 12, generator=random) * 3
    return logits.requires_grad_(), torch.rand(count, 35, 47, generator=random) < 0.3


@pytest.mark.parametrize("count", [1, 4, 9])
def test_losses_and_gradients_equal_the_plain_computation(
    count: int, monkeypatch: pytest.MonkeyPatch
):
    """torchvision's focal loss and the definition of DICE, on all full-size masks at once."""
    monkeypatch.setattr(mask_loss, "MAX_FULL_SIZE_PX", 4 * 35 * 47)
    logits, masks = _masks(count)
    resized = F.interpolate(logits[:, None], size=(35, 47), mode="bilinear").flatten(1)
    target = masks.flatten(1).float()
    focal = sigmoid_focal_loss(resized, target, alpha=0.25, gamma=2.0).mean(1)
    probability = resized.sigmoid()
    intersection, total = (probability * target).sum(1), probability.sum(1) + target.sum(1)
    dice = 1 - (2 * intersection + 1) / (total + 1)
    expected = torch.stack([focal, dice])
    losses = focal_and_dice(logits, PackedMasks.pack(masks))
    assert torch.allclose(losses, expected, rtol=1e-5)
    weights = torch.tensor([[2.0], [3.0]])
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), logits)
    (gradient,) = torch.autograd.grad((losses * weights).sum(), logits)
    assert torch.allclose(gradient, expected_gradient, atol=1e-8, rtol=1e-4)


def test_a_perfect_mask_has_no_loss_and_its_inverse_the_largest():
    _, masks = _masks(2)
    perfect = torch.where(masks, 30.0, -30.0)
    assert focal_and_dice(perfect, PackedMasks.pack(masks)).max() < 1e-4
    assert focal_and_dice(-perfect, PackedMasks.pack(masks))[1].min() > 0.99


def test_no_masks_still_give_a_gradient():
    """Every process must exchange the same gradients."""
    logits, masks = _masks(0)
    focal_and_dice(logits, PackedMasks.pack(masks)).sum().backward()
    assert logits.grad is not None
