"""Losses and gradients of RT-DETR and RT-DETRv2 against transformers' on the same noise."""

from typing import Any

import pytest
import torch
from transformers.models.rt_detr import modeling_rt_detr
from transformers.models.rt_detr_v2 import modeling_rt_detr_v2

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector

from .comparison import gradient_norm, random_pixels, whole_images
from .denoising_noise import SEED, share_noise
from .random_targets import random_targets

COSTS = MatchCosts.model_validate({"class": 2})
NAMES = {"class": "loss_vfl", "l1": "loss_bbox", "giou": "loss_giou"}
WEIGHTS = {"class": 1, "l1": 5, "giou": 2}


def keep_boxes_inside(reference: Any) -> None:
    """Make steps small: boxes stay inside the image, and queries apart."""
    with torch.no_grad():
        for head in (*reference.model.decoder.bbox_embed, reference.model.enc_bbox_head):
            head.layers[-1].weight.mul_(0.2)


def assert_losses_and_gradients_agree(
    model: Detector,
    reference: Any,
    counts: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
    size_px: tuple[int, int] = (96, 96),
) -> None:
    """Compare all terms of all groups on random images, with `counts` targets each."""
    model.train()
    reference.train()
    pixels = random_pixels(size_px, 2, torch.float32)
    targets = random_targets(counts, classes=reference.config.num_labels)
    if sum(counts):  # without any target, transformers denoises nothing
        share_noise(model, targets, [modeling_rt_detr, modeling_rt_detr_v2], monkeypatch)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    result = reference(pixel_values=pixels, labels=labels)
    theirs = result.loss_dict

    torch.manual_seed(SEED)
    groups = model(whole_images(pixels), targets)
    losses = Criterion(model.class_loss, COSTS, LossWeights())(groups, targets)
    ours = {group.group: group.terms for group in losses.groups}
    layers = len(ours["main"]["class"])
    endings = {
        **{("main", layer): f"_aux_{layer}" for layer in range(layers - 1)},
        ("main", layers - 1): "",
        ("encoder", 0): f"_aux_{layers - 1}",
    }
    if sum(counts):
        endings |= {("denoising", layer): f"_dn_{layer}" for layer in range(layers)}
    assert len(theirs) == len(endings) * len(NAMES)
    for (group, layer), ending in endings.items():
        for name, their_name in NAMES.items():
            value = WEIGHTS[name] * ours[group][name][layer]
            assert value.item() == pytest.approx(theirs[their_name + ending].item(), rel=1e-4)
    assert losses.total.item() == pytest.approx(result.loss.item(), rel=1e-4)
    losses.total.backward()
    result.loss.backward()
    hub = reference.model
    parts = (
        (model, reference),
        (model.backbone, hub.backbone),
        (
            model.encoder,
            torch.nn.ModuleList([hub.encoder_input_proj, hub.encoder, hub.decoder_input_proj]),
        ),
        (model.decoder, hub.decoder),
        (model.queries.box_step, hub.enc_bbox_head),
        *([(model.denoising, hub.denoising_class_embed)] if sum(counts) else []),
    )
    for our_part, their_part in parts:
        assert gradient_norm(our_part) == pytest.approx(gradient_norm(their_part), rel=1e-3)
