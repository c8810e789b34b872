"""Every preset by name, and how a model card becomes a model."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from setmatch.errors import ConfigError, suggest
from setmatch.models.detector import Detector
from setmatch.models.detr.ablations import FFNS, POSITIONS
from setmatch.models.detr.presets import (
    detr_demo,
    detr_nano,
    detr_r18_tiny,
    detr_r18_tiny_panoptic,
    detr_r50,
    detr_r50_dc5,
    detr_r50_dc5_panoptic,
    detr_r50_panoptic,
    detr_r101,
    detr_r101_dc5,
    detr_r101_panoptic,
)
from setmatch.models.setmatch.presets import (
    setmatch_m,
    setmatch_m_panoptic,
    setmatch_n,
    setmatch_n_panoptic,
    setmatch_s,
    setmatch_s_panoptic,
    setmatch_timm,
)
from setmatch.models.torchvision.model import BASELINES, NORMS
from setmatch.structures.metadata import ModelCard

Preset = Callable[..., Detector]  # (num_classes, shape), shape a frozen dataclass with defaults
MODELS: dict[str, Preset] = {
    "detr_r50": detr_r50,
    "detr_r50_dc5": detr_r50_dc5,
    "detr_r101": detr_r101,
    "detr_r101_dc5": detr_r101_dc5,
    "detr_r50_panoptic": detr_r50_panoptic,
    "detr_r50_dc5_panoptic": detr_r50_dc5_panoptic,
    "detr_r101_panoptic": detr_r101_panoptic,
    "detr_r18_tiny": detr_r18_tiny,
    "detr_r18_tiny_panoptic": detr_r18_tiny_panoptic,
    "detr_nano": detr_nano,
    "detr_demo": detr_demo,
    "setmatch_n": setmatch_n,
    "setmatch_s": setmatch_s,
    "setmatch_m": setmatch_m,
    "setmatch_timm": setmatch_timm,
    "setmatch_n_panoptic": setmatch_n_panoptic,
    "setmatch_s_panoptic": setmatch_s_panoptic,
    "setmatch_m_panoptic": setmatch_m_panoptic,
}


def build(card: ModelCard) -> Detector:
    """Build the model that `card` describes, with random weights, in training mode.

    Raises ConfigError for a preset or argument that does not exist, with the nearest that does.
    """
    preset = find_preset(card.preset)
    shape = apply_arguments(inspect.signature(preset).parameters["shape"].default, card)
    detector = preset(len(card.categories), shape)
    detector.card = dataclasses.replace(card, arguments=dataclasses.asdict(shape))
    return detector


def find_preset(name: str) -> Preset:
    """Return the preset called `name`; raises ConfigError with the nearest name there is."""
    known = {**MODELS, **BASELINES}
    if name not in known:
        raise ConfigError(f"model {name}: no such model; {suggest(name, known)}")
    return known[name]


def box_preset(name: str) -> str:
    """Return the name of the same model without its mask head; `name` itself if it has none."""
    return name.removesuffix("_panoptic")


CHOICES: dict[str, tuple[str, ...]] = {
    "position": tuple(POSITIONS),
    "norm": ("post", "pre"),
    "ffn": tuple(FFNS),
    "batch_norm": tuple(NORMS),
}
MAY_BE_0 = ("dropout", "encoder_layers")


def apply_arguments(default: Any, card: ModelCard) -> Any:
    """Return the shape `default` with the arguments of `card`.

    Raises ConfigError for an argument that does not exist, with the nearest that does, or whose
    value cannot be.
    """
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    for key, value in card.arguments.items():
        if key not in fields:
            raise ConfigError(f"model {card.preset}: no argument {key}; {suggest(key, fields)}")
        _check(card.preset, key, value, fields[key])
    shape = dataclasses.replace(default, **card.arguments)
    if shape.validate():
        raise ConfigError(f"model {card.preset}: {shape.validate()}")
    return shape


def _check(preset: str, key: str, value: object, default: object) -> None:
    """Refuse an argument of another kind than its default, or out of its range."""
    what = f"model {preset}: {key} = {value!r}"
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise ConfigError(f"{what}; it can be {' or '.join(CHOICES[key])}")
        return
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ConfigError(f"{what} must be a name")
        return
    kinds = (int, float) if isinstance(default, float) else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(f"{what} must be of type {type(default).__name__}")
    if value < 0 or (value == 0 and key not in MAY_BE_0):
        raise ConfigError(f"{what} is too small")
    if key == "dropout" and value >= 1:
        raise ConfigError(f"{what} must be below 1")
