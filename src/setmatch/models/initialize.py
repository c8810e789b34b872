"""Initial weights for training: a detector's, an ImageNet backbone's, or random."""

import dataclasses
import logging
from typing import Any

import torch
from torchvision.models import get_model_weights
from torchvision.ops import FrozenBatchNorm2d

from setmatch.errors import WeightsError
from setmatch.models.backbones.resnet import FrozenNormConv2d, Named, is_named
from setmatch.models.backbones.timm import TimmBackbone
from setmatch.models.config import free_arguments
from setmatch.models.detector import Detector
from setmatch.models.family import default_shape
from setmatch.models.load import assemble, load_with_notes, say
from setmatch.models.registry import STARTS, build, find_preset
from setmatch.models.weights.backbone_start import fill_backbone
from setmatch.models.weights.downloads.download import fetch_torchvision
from setmatch.models.weights.layouts.key_map import TORCHVISION_BACKBONE, from_layout
from setmatch.structures.metadata import ModelCard

FROZEN = (FrozenNormConv2d, FrozenBatchNorm2d)

log = logging.getLogger("setmatch")
MASK_HEAD = "mask_head."


def initialize(card: ModelCard, weights: str | None) -> Detector:
    """Return the detector that `card` describes, in training mode, with initial weights.

    `weights` is anything that `load` reads, "imagenet" for a pretrained backbone only (that of the
    published training, where the family has one), or "none" for random weights. A detector's
    weights are adapted to the card's classes; rows of classes with the same name are kept, and a
    missing mask head is random. None means "imagenet" for backbones with frozen norms of
    torchvision, as published, and "none" for all others.
    Raises WeightsError for weights that cannot be found or belong to another model.
    """
    detector = build(card)
    backbone = detector.backbone
    frozen = any(isinstance(module, FROZEN) for module in backbone.modules())
    match weights or ("imagenet" if frozen else "none"):
        case "imagenet" if isinstance(backbone, TimmBackbone):
            backbone.load_pretrained()
        case "imagenet" if is_named(backbone):
            load_imagenet_backbone(backbone)
        case "imagenet" if card.preset in STARTS:
            fill_backbone(backbone, STARTS[card.preset], card.preset)
        case "imagenet":
            raise WeightsError(f"{card.preset}: there are no ImageNet weights for its backbone")
        case "none" if frozen:
            log.warning("%s: random backbone with frozen norms; it will hardly learn", card.preset)
        case "none":
            pass
        case name:
            detector = _from_detector(card, name, _box_preset(detector))
    return detector.to(memory_format=torch.channels_last).train()


def _box_preset(detector: Detector) -> str:
    return detector.box_preset or detector.card.preset


def _from_detector(card: ModelCard, name: str, box_preset: str) -> Detector:
    queries = card.arguments.get("num_queries")
    detector, notes = load_with_notes(
        name,
        categories=card.categories,
        num_queries=queries,
        preprocessing=card.preprocessing,
    )
    if _box_preset(detector) != box_preset:
        raise WeightsError(
            f"{name}: weights of {detector.card.preset} do not fit {card.preset}; use "
            f"--model {detector.card.preset}, or random weights (--weights none)"
        )
    default = default_shape(find_preset(card.preset))
    free = set() if default is None else free_arguments(default)
    trained = detector.card.arguments
    differing = [
        f"{key} is {trained[key]!r} there, {value!r} here"
        for key, value in card.arguments.items()
        if _plain(trained[key]) != _plain(value) and key not in free
    ]
    if differing:
        raise WeightsError(
            f"{name}: other model arguments than the recipe's: {'; '.join(differing)}; remove them "
            "from the recipe, or use random weights (--weights none)"
        )
    say(name, notes)
    if detector.card.preset != card.preset:
        return swap_mask_head(detector, card)
    arguments = {**detector.card.arguments, **card.arguments}
    wanted = dataclasses.replace(detector.card, arguments=arguments)
    return assemble(wanted, detector.state_dict(), name)


def _plain(value: Any) -> Any:
    """Return the list of a tuple: a recipe has lists where a card has tuples."""
    return list(value) if isinstance(value, tuple) else value


def swap_mask_head(detector: Detector, card: ModelCard) -> Detector:
    """Return the detector with a random mask head if `card` has one, else without a mask head."""
    trained = detector.card
    other = build(dataclasses.replace(card, arguments=trained.arguments, license=trained.license))
    body = {k: v for k, v in detector.state_dict().items() if not k.startswith(MASK_HEAD)}
    head = {k: v for k, v in other.state_dict().items() if k.startswith(MASK_HEAD)}
    other.load_state_dict(body | head, strict=True)
    return other


def load_imagenet_backbone(backbone: Named) -> None:
    """Load torchvision's ImageNet weights (V1, as DETR did) into the backbone.

    Raises WeightsError with the file to fetch and its place if there is no network.
    """
    weights = get_model_weights(backbone.name)["IMAGENET1K_V1"]
    state = fetch_torchvision(
        weights,
        f"ImageNet weights of {backbone.name}",
        "or start from a detector's weights (--weights), or from random ones (--weights none, with "
        "train.backbone_lr as high as train.lr)",
    )
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    if isinstance(backbone.body.conv1, FrozenNormConv2d):
        ours = from_layout(state, TORCHVISION_BACKBONE)
        state = {key.removeprefix("backbone.body."): value for key, value in ours.items()}
    backbone.body.load_state_dict(state, strict=True)
