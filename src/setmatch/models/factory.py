"""Models from outside the package, named `package.module:factory`."""

import importlib
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any

from setmatch.errors import ConfigError, closest
from setmatch.models.detector import Detector


def import_factory(name: str) -> Callable[..., Detector]:
    """Import a factory: a function (num_classes) or (num_classes, shape) that returns a Detector.

    `shape` has a frozen dataclass for its default; its fields are the model's arguments. A model
    card holds no code, only this name, so the module must be importable wherever the model is
    loaded. Only functions that are annotated to return a Detector, and subclasses of Detector, are
    called: a foreign card cannot run anything else. Raises ConfigError.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name):
        raise ConfigError(f"model {name}: expected package.module:factory")
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"model {name}: cannot import {module_name} ({error}); install it, or put its folder "
            "on PYTHONPATH"
        ) from None
    if not hasattr(module, attribute):
        near = closest(attribute, dir(module))
        hint = "" if near is None else f"; did you mean {near}?"
        raise ConfigError(f"model {name}: {module_name} has no {attribute}{hint}")
    factory: Any = getattr(module, attribute)
    if not _makes_detector(factory):
        raise ConfigError(
            f"model {name}: not a factory of detectors; write it as a function "
            f"{attribute}(num_classes: int) -> setmatch.models.detector.Detector"
        )
    if next(iter(inspect.signature(factory).parameters), None) != "num_classes":
        raise ConfigError(f"model {name}: the first parameter of a factory is num_classes")
    return typing.cast(Callable[..., Detector], factory)


def _makes_detector(factory: Any) -> bool:
    made = factory
    if inspect.isfunction(factory):
        try:
            made = typing.get_type_hints(factory).get("return")
        except NameError:  # an annotation that is not importable names no Detector
            return False
    return isinstance(made, type) and issubclass(made, Detector)
