"""The loss of masks: the published arithmetic, in less memory."""

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
def test_losses_and_gradients_equal_the_plain_arithmetic(
    count: int, monkeypatch: pytest.MonkeyPatch
):
    """torchvision's focal loss and the definition of DICE, on whole masks at once."""
    monkeypatch.setattr(mask_loss, "AT_ONCE_PX", 4 * 35 * 47)
    logits, owed = _masks(count)
    grown = F.interpolate(logits[:, None], size=(35, 47), mode="bilinear").flatten(1)
    there = owed.flatten(1).float()
    focal = sigmoid_focal_loss(grown, there, alpha=0.25, gamma=2.0).mean(1)
    share = grown.sigmoid()
    dice = 1 - (2 * (share * there).sum(1) + 1) / (share.sum(1) + there.sum(1) + 1)
    expected = torch.stack([focal, dice])
    found = focal_and_dice(logits, PackedMasks.pack(owed))
    assert torch.allclose(found, expected, rtol=1e-5)
    way = torch.tensor([[2.0], [3.0]])
    (wanted,) = torch.autograd.grad((expected * way).sum(), logits)
    (got,) = torch.autograd.grad((found * way).sum(), logits)
    assert torch.allclose(got, wanted, atol=1e-8, rtol=1e-4)


def test_a_perfect_mask_costs_nothing_and_its_opposite_all():
    """Both losses near 0; DICE of the opposite near 1."""
    _, owed = _masks(2)
    panoptic_threshold = torch.where(owed, 30.0, -30.0)
    assert focal_and_dice(panoptic_threshold, PackedMasks.pack(owed)).max() < 1e-4
    assert focal_and_dice(-panoptic_threshold, PackedMasks.pack(owed))[1].min() > 0.99


def test_no_masks_have_no_loss_but_a_gradient():
    """What made them learns nothing, and every process exchanges as many gradients."""
    logits, owed = _masks(0)
    focal_and_dice(logits, PackedMasks.pack(owed)).sum().backward()
    assert logits.grad is not None
