"""Models from outside the package, named `package.module:factory`."""

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

from setmatch.errors import ConfigError, suggest
from setmatch.models.detector import Detector

FACTORY_NAME = r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)"


def import_named(name: str) -> None:
    """Import the module of `package.module:factory`, a name that the user gave; a preset has none.

    Never call it with a name out of a file: a file must not choose which code runs. Raises
    ConfigError if the module cannot be imported.
    """
    if match := re.fullmatch(FACTORY_NAME, name):
        import_module(match[1])


def import_module(module_name: str) -> None:
    """Import a module that the user named; raise ConfigError if that fails."""
    try:
        importlib.import_module(module_name)
    except (ImportError, ValueError, TypeError) as error:  # the last two: names like "" and ".a"
        raise ConfigError(
            f"module {module_name}: cannot be imported ({error}); install it, or put its folder "
            "on PYTHONPATH"
        ) from None


def find_factory(name: str) -> Callable[..., Detector]:
    """Return the factory that `name` names, in a module that has been imported already.

    A factory is a function (num_classes) or (num_classes, shape) that returns a Detector.
    `shape` has a frozen dataclass for its default; its fields are the model's arguments. A model
    card holds no code, only this name. Nothing is imported here, and only functions that are
    annotated to return a Detector, and subclasses of Detector, are called: a foreign card cannot
    run code that the user did not choose. Raises ConfigError.
    """
    match = re.fullmatch(FACTORY_NAME, name)
    if match is None:
        raise ConfigError(f"model {name}: expected package.module:factory")
    module_name, attribute = match.groups()
    module = sys.modules.get(module_name)
    if module is None:
        raise ConfigError(
            f"model {name}: is code outside of setmatch, which a file may not import. If you trust "
            f"it, import {module_name} before (Python) or add --import {module_name} (command line)"
        )
    if not hasattr(module, attribute):
        hint = suggest(attribute, dir(module), "give the name of a factory in it")
        raise ConfigError(f"model {name}: {module_name} has no {attribute}; {hint}")
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
