"""A model family: what its folder offers to the rest of the package."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from setmatch.models.detector import Detector
from setmatch.models.weights.backbone_start import BackboneStart
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights

Preset = Callable[..., Detector]  # (num_classes, shape), shape a frozen dataclass with defaults


@dataclass(frozen=True)
class Family:
    """The named models of a family, and the checkpoints that it can read.

    `box_presets` pairs each preset that has a mask head with the same model without one.
    `published` downloads and reads the weights that are published under a name. `starts` are the
    weights that the published training of a preset starts its backbone from.
    """

    presets: Mapping[str, Preset]
    box_presets: Mapping[str, str] = field(default_factory=dict)
    layouts: Sequence[CheckpointLayout] = ()
    published: Mapping[str, Callable[[], LoadedWeights]] = field(default_factory=dict)
    starts: Mapping[str, BackboneStart] = field(default_factory=dict)


def by_name(*presets: Preset) -> dict[str, Preset]:
    """Return the presets by the names of their functions."""
    return {preset.__name__: preset for preset in presets}


def default_shape(preset: Preset) -> Any:
    """Return the dataclass that holds the default arguments of a preset; None if it takes none."""
    parameter = inspect.signature(preset).parameters.get("shape")
    return None if parameter is None else parameter.default


def nearest_shape(shapes: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return the name of the shape that differs from `arguments` in the fewest values."""

    def differences(name: str) -> int:
        default = shapes[name]
        names = [each.name for each in fields(default) if each.name in arguments]
        return sum(getattr(default, each) != arguments[each] for each in names)

    return min(shapes, key=differences)
