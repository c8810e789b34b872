"""Losses and gradients of the models on ResNet, Conditional to Deformable DETR, against theirs.

They are computed in float64, as rounding decides which of two equal matches is made.
"""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from setmatch.config import LossWeights, MatchCosts
from setmatch.losses.criterion import Criterion, Losses
from setmatch.models.detector import Detector
from setmatch.structures.batch import Target

from .comparison import gradient_norm, random_pixels, whole_images
from .random_targets import random_targets
from .small_placed_detr import read_every_layer

NAMES = {"class": "loss_ce", "l1": "loss_bbox", "giou": "loss_giou"}
STAGE_FROM_2 = re.compile(r"\blayer[2-4]\.|\bstages\.[1-3]\.")  # of timm, of transformers
Size = tuple[int, int]


def assert_losses_of_placed_queries_agree(
    model: Detector, reference: Any, counts: tuple[int, ...], size_px: Size
) -> None:
    """Compare Conditional DETR or DAB-DETR on random images, with `counts` targets each."""
    pixels, targets, labels = _inputs(model, reference, counts, size_px)
    reference.config.auxiliary_loss = False  # its graph is the published one without
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # which DAB-DETR has for its empty queries
    logits, boxes, _ = read_every_layer(reference, pixels)
    torch.set_default_dtype(default)
    reference.config.auxiliary_loss = True
    total, terms, _ = reference.loss_function(
        logits[-1], labels, "cpu", boxes[-1], reference.config, logits, boxes
    )
    costs = MatchCosts.model_validate({"class": 2})
    losses = Criterion(model.class_loss, costs, LossWeights())(
        model(whole_images(pixels), targets), targets
    )
    _assert_terms_agree(losses, total, terms)
    hub = reference.model
    _assert_gradients_agree(
        (model, reference),
        (model.backbone, hub.backbone),
        (model.encoder, hub.encoder),
        (model.decoder.layers, hub.decoder.layers),
        (model.decoder.scale, hub.decoder.query_scale),
        (model.decoder.box_step, reference.bbox_predictor),
    )


def assert_losses_of_deformable_detr_agree(
    model: Detector, reference: Any, counts: tuple[int, ...], size_px: Size
) -> None:
    """Compare without the loss of the encoder's proposals, which transformers does not have."""
    pixels, targets, labels = _inputs(model, reference, counts, size_px)
    result = reference(pixel_values=pixels, labels=labels)
    main = model(whole_images(pixels), targets)[:1]
    losses = Criterion(model.class_loss, MatchCosts(), LossWeights())(main, targets)
    _assert_terms_agree(losses, result.loss, result.loss_dict)
    hub = reference.model
    _assert_gradients_agree(
        (model.backbone, hub.backbone),
        (model.encoder.project, hub.input_proj),
        (model.encoder.sampling_layers, hub.encoder),
        (model.decoder.layers, hub.decoder.layers),
        (model.queries, _queries(hub)),
    )
    levels = [model.encoder.level.grad, hub.level_embed.grad]
    if levels[1] is not None:  # without encoder layers, nothing reads it
        assert levels[0].norm().item() == pytest.approx(levels[1].norm().item(), rel=1e-3)


def _inputs(
    model: Detector, reference: Any, counts: tuple[int, ...], size_px: Size
) -> tuple[Tensor, list[Target], list[dict[str, Tensor]]]:
    """Return images, targets, and the targets as transformers takes them; set both to train."""
    model.train().double()
    reference.train().double()
    for name, parameter in reference.model.backbone.named_parameters():
        parameter.requires_grad_(bool(STAGE_FROM_2.search(name)))  # as its authors do
    targets = random_targets(counts, reference.config.num_labels)
    labels = [{"class_labels": each.classes, "boxes": each.cxcywh.double()} for each in targets]
    return random_pixels(size_px, len(counts), torch.float64), targets, labels


def _assert_terms_agree(losses: Losses, total: Tensor, terms: dict[str, Tensor]) -> None:
    (ours,) = (group.terms for group in losses.groups)
    layers = len(ours["class"])
    for layer in range(layers):
        ending = "" if layer == layers - 1 else f"_{layer}"
        for name, their_name in NAMES.items():
            expected = terms[their_name + ending].item()
            assert ours[name][layer].item() == pytest.approx(expected, rel=1e-4)
    assert losses.total.item() == pytest.approx(total.item(), rel=1e-4)
    losses.total.backward()
    total.backward()


def _assert_gradients_agree(*parts: Sequence[nn.Module]) -> None:
    for ours, theirs in parts:
        assert gradient_norm(ours) == pytest.approx(gradient_norm(theirs), rel=1e-3)


def _queries(hub: nn.Module) -> nn.Module:
    """What makes queries: learned, or of the encoder's boxes, which get no gradient."""
    if hub.config.two_stage:
        return nn.ModuleList([hub.pos_trans, hub.pos_trans_norm])
    return nn.ModuleList([hub.query_position_embeddings, hub.reference_points])
