"""Losses of decoders with distributions against transformers' on the same denoising noise."""

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector

from .comparison import gradient_norm, random_pixels, whole_images
from .denoising_noise import SEED, share_noise
from .random_targets import random_targets

COSTS = MatchCosts.model_validate({"class": 2})


def _endings(layers: int) -> dict[tuple[str, int], str]:
    """Return transformers' ending of names for each of our groups and layers that both train."""
    return {
        ("main", layers - 1): "",
        ("start", 0): "_aux_0",
        **{("main", layer): f"_aux_{layer + 1}" for layer in range(layers - 2)},
        ("encoder", 0): f"_aux_{layers - 1}",
        ("denoising_start", 0): "_dn_0",
        **{("denoising", layer): f"_dn_{layer + 1}" for layer in range(layers - 1)},
    }


def keep_boxes_inside(reference: Any) -> None:
    """Make steps small: transformers clamps boxes that leave the image."""
    with torch.no_grad():
        for head in {id(head): head for head in reference.model.decoder.bbox_embed}.values():
            head.layers[-1].weight.mul_(0.1)
        for head in (reference.model.enc_bbox_head, reference.model.decoder.pre_bbox_head):
            head.layers[-1].weight.mul_(0.2)


def assert_class_and_box_losses_agree(
    model: Detector,
    reference: Any,
    counts: tuple[int, ...],
    class_term: str,
    modeling: ModuleType,
    parts: tuple[tuple[nn.Module, nn.Module], ...],
    monkeypatch: pytest.MonkeyPatch,
    size_px: tuple[int, int] = (96, 96),
    rel: float = 1e-4,
) -> None:
    """Compare terms where both train the same, and the gradients of all and of `parts`.

    Terms agree within `rel`, norms of gradients within ten times that. `modeling` is transformers'
    module of the model, `class_term` its name of the class loss.
    """
    names = {"class": class_term, "l1": "loss_bbox", "giou": "loss_giou"}
    pixels = random_pixels(size_px, 2, torch.float32)
    targets = random_targets(counts, classes=reference.config.num_labels)
    share_noise(model, targets, [modeling], monkeypatch)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    theirs = reference(pixel_values=pixels, labels=labels).loss_dict

    torch.manual_seed(SEED)
    groups = model(whole_images(pixels), targets)
    losses = Criterion(model.class_loss, COSTS, LossWeights())(groups, targets)
    ours = {group.group: group.terms for group in losses.groups}

    weights = {"class": 1, "l1": 5, "giou": 2}
    our_sum, their_sum = torch.tensor(0.0), torch.tensor(0.0)
    for (group, layer), ending in _endings(reference.config.decoder_layers).items():
        for name, their_name in names.items():
            value = weights[name] * ours[group][name][layer]
            assert value.item() == pytest.approx(theirs[their_name + ending].item(), rel=rel)
            our_sum, their_sum = our_sum + value, their_sum + theirs[their_name + ending]
    our_sum.backward()
    their_sum.backward()
    total = [gradient_norm(each) for each in (model, reference)]
    assert total[0] == pytest.approx(total[1], rel=10 * rel)
    for our_part, their_part in parts:
        assert gradient_norm(our_part) == pytest.approx(gradient_norm(their_part), rel=10 * rel)
