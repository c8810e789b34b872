"""Every preset by name, and how a model card becomes a model."""

import dataclasses
import re

import torch

from setmatch.errors import ConfigError, suggest
from setmatch.models import (
    conditional_detr,
    dab_detr,
    deformable_detr,
    deimv2,
    detr,
    dfine,
    lwdetr,
    rfdetr,
    rtdetr,
    setmatch,
    torchvision,
)
from setmatch.models.config import apply_arguments
from setmatch.models.detector import Detector
from setmatch.models.factory import find_factory
from setmatch.models.family import Preset, default_shape
from setmatch.models.weights.layouts.layout import CheckpointLayout
from setmatch.structures.metadata import ModelCard

FAMILIES = (
    detr.FAMILY,
    conditional_detr.FAMILY,
    dab_detr.FAMILY,
    deformable_detr.FAMILY,
    rtdetr.FAMILY,
    dfine.FAMILY,
    deimv2.FAMILY,
    lwdetr.FAMILY,
    rfdetr.FAMILY,
    setmatch.FAMILY,
    torchvision.FAMILY,
)

MODELS = {name: preset for family in FAMILIES for name, preset in family.presets.items()}
BOX_PRESETS = {name: box for family in FAMILIES for name, box in family.box_presets.items()}
LAYOUTS = [layout for family in FAMILIES for layout in family.layouts]
PUBLISHED = {name: read for family in FAMILIES for name, read in family.published.items()}

STARTS = {name: start for family in FAMILIES for name, start in family.starts.items()}


def build(card: ModelCard) -> Detector:
    """Build the model that `card` describes, with random weights, in training mode.

    Raises ConfigError for an unknown preset or argument, with the nearest known name.
    """
    preset = find_preset(card.preset)
    num_classes, default = len(card.categories), default_shape(preset)
    if default is None:
        if card.arguments:
            given = ", ".join(card.arguments)
            raise ConfigError(f"model {card.preset}: takes no arguments, but was given {given}")
        detector, arguments = preset(num_classes), {}
    else:
        shape = apply_arguments(card.preset, default, dict(card.arguments))
        detector, arguments = preset(num_classes, shape), dataclasses.asdict(shape)
    detector.card = dataclasses.replace(card, arguments=arguments)
    if card.preset in BOX_PRESETS:
        detector.box_preset = BOX_PRESETS[card.preset]
    return detector


def find_preset(name: str) -> Preset:
    """Return the preset called `name`, or the factory that `package.module:factory` names.

    Raises ConfigError, for an unknown name with the nearest known one; see also `find_factory`.
    """
    if ":" in name:
        return find_factory(name)
    if name not in MODELS:
        raise ConfigError(f"model {name}: no such model; {_advice(name)}")
    return MODELS[name]


def _advice(name: str) -> str:
    """Return which models an unknown name may mean: those of its family, if it has one here."""
    family = re.split("[-_.]", name)[0].casefold()
    own = [each for each in MODELS if each.startswith(f"{family}_")]
    return suggest(name, own or MODELS, suggest(family, own or MODELS, "see setmatch models"))


def layouts_of(preset: str) -> list[CheckpointLayout]:
    """Return the layouts of the preset's family, and those that a program added to LAYOUTS.

    Layouts of different families may have the same name.
    """
    others = [each for each in FAMILIES if preset not in each.presets]
    return [each for each in LAYOUTS if not any(each in other.layouts for other in others)]


def box_preset(name: str) -> str | None:
    """Return the preset of the same model without its mask head, if there is one.

    Raises ConfigError for an unknown name.
    """
    return BOX_PRESETS.get(name) or (_probe(name).box_preset if ":" in name else None)


def mask_preset(name: str) -> str | None:
    """Return the preset of the same model with a mask head, if there is one."""
    return next((masks for masks, boxes in BOX_PRESETS.items() if boxes == name), None)


def has_masks(name: str) -> bool:
    """Return True if the models of a preset have a mask head.

    Raises ConfigError for an unknown name.
    """
    return name in BOX_PRESETS or _probe(name).has_masks


def _probe(name: str) -> Detector:
    """Build a model without memory for its weights, for its attributes; keeps the random state."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        return find_preset(name)(1)
