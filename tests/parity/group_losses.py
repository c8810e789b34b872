"""Losses and gradients of models with groups of queries, against transformers'."""

from typing import Any

import pytest
import torch

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion
from setmatch.models.detector import Detector

from .comparison import gradient_norm, random_pixels, whole_images
from .random_targets import random_targets

NAMES = {"class": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}


def assert_losses_and_gradients_agree(
    model: Detector, reference: Any, counts: tuple[int, ...], size_px: tuple[int, int] = (64, 64)
) -> None:
    """Compare all terms of all groups on random images, with `counts` targets each."""
    model.train()
    reference.train()
    pixels = random_pixels(size_px, 2, torch.float32)
    targets = random_targets(counts, reference.config.num_labels)
    labels = [{"class_labels": t.classes, "boxes": t.cxcywh} for t in targets]
    theirs = reference(pixel_values=pixels, labels=labels)

    groups = model(whole_images(pixels), targets)
    costs = MatchCosts.model_validate({"class": 2})
    losses = Criterion(model.class_loss, costs, LossWeights())(groups, targets)
    ours = {group.group: group.terms for group in losses.groups}
    layers = reference.config.decoder_layers
    endings = [*(f"_{layer}" for layer in range(layers - 1)), ""]
    for name, their_name in NAMES.items():
        expected = torch.stack([theirs.loss_dict[their_name + ending] for ending in endings])
        torch.testing.assert_close(ours["main"][name], expected, rtol=1e-4, atol=0)
        proposed = theirs.loss_dict[f"{their_name}_enc"]
        torch.testing.assert_close(ours["encoder"][name][0], proposed, rtol=1e-4, atol=0)
    torch.testing.assert_close(losses.total, theirs.loss, rtol=1e-4, atol=0)

    losses.total.backward()
    theirs.loss.backward()
    assert gradient_norm(model) == pytest.approx(gradient_norm(reference), rel=1e-3)
    inner = reference.model
    for our_parts, their_parts in (
        ([model.backbone], [inner.backbone.backbone]),
        ([model.encoder], [inner.backbone.projector]),
        ([model.decoder], [inner.decoder, reference.class_embed, reference.bbox_embed]),
        (
            [model.queries],
            [
                *(inner.reference_point_embed, inner.query_feat, inner.enc_output),
                *(inner.enc_output_norm, inner.enc_out_bbox_embed, inner.enc_out_class_embed),
            ],
        ),
    ):
        assert gradient_norm(*our_parts) == pytest.approx(gradient_norm(*their_parts), rel=1e-3)
