"""Model arguments: the fields of a preset's frozen dataclass, and their checks."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from setmatch.errors import ConfigError, short, suggest


def argument(
    default: Any,
    *,
    may_be_0: bool = False,
    may_be_empty: bool = False,
    below: float | int | None = None,
    most: float | int | None = None,
    shapes_weights: bool = True,
) -> Any:
    """Return a dataclass field for a model argument; numbers are positive unless `may_be_0`.

    A list has numbers unless it `may_be_empty`. Numbers are less than `below` and at most `most`: a
    card may come from anywhere, and must not make a model that takes minutes to build.
    `shapes_weights` is False for arguments that may differ from those of the weights a model is
    initialized from.
    """
    metadata = {
        "may_be_0": may_be_0,
        "may_be_empty": may_be_empty,
        "below": below,
        "most": most,
        "shapes_weights": shapes_weights,
    }
    return dataclasses.field(default=default, metadata=metadata)


MOST_QUERIES, MOST_LAYERS, MOST_CHANNELS = 10_000, 64, 16_384


@dataclass(frozen=True)
class Width:
    """The number of queries and the width of a model."""

    num_queries: int = argument(100, most=MOST_QUERIES)
    dim: int = argument(256, most=MOST_CHANNELS)
    heads: int = argument(8, most=1024)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.dim % self.heads == 0 and self.dim % 4 == 0:
            return ""
        return (
            f"dim = {self.dim} must be a multiple of heads = {self.heads}, and of 4 for the "
            "position encoding"
        )


def apply_arguments(preset: str, default: Any, arguments: dict[str, Any]) -> Any:
    """Return the dataclass `default` with `arguments` in place.

    Fields are checked by their annotations (numbers, strings, Literal) and by what `argument` says
    of them, then together by the method `validate`, if there is one. Raises ConfigError with the
    preset, the argument and the nearest known name or the allowed values.
    """
    fields = {field.name: field for field in dataclasses.fields(default)}
    hints = get_type_hints(type(default))
    for key, value in arguments.items():
        if key not in fields:
            name = short(key).strip("'")
            raise ConfigError(f"model {preset}: no argument {name}; {suggest(name, fields)}")
        problem = _problem(value, hints[key], **fields[key].metadata)
        if problem:
            raise ConfigError(f"model {preset}: {key} = {short(value)}{problem}")
    shape = dataclasses.replace(default, **{k: _frozen(v) for k, v in arguments.items()})
    contradiction = shape.validate() if hasattr(shape, "validate") else ""
    if contradiction:
        raise ConfigError(f"model {preset}: {contradiction}")
    return shape


def free_arguments(default: Any) -> set[str]:
    """Return the arguments that no weight depends on."""
    fields = dataclasses.fields(default)
    return {field.name for field in fields if not field.metadata.get("shapes_weights", True)}


def _frozen(value: Any) -> Any:
    """Return a list, as JSON and recipes have it, as the tuple of a frozen dataclass."""
    return tuple(value) if isinstance(value, list) else value


def _problem(
    value: object,
    hint: Any,
    may_be_0: bool = False,
    may_be_empty: bool = False,
    below: float | int | None = None,
    most: float | int | None = None,
    shapes_weights: bool = True,
) -> str:
    """Return what is wrong with the value of an argument annotated with `hint`, or nothing."""
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        return "" if value in choices else f"; it can be {' or '.join(map(str, choices))}"
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or not (value or may_be_empty):
            return " must be a list of numbers"
        kind = get_args(hint)[0]
        problems = (_problem(each, kind, may_be_0, False, below, most) for each in value)
        return next(filter(None, problems), "")
    if hint is str:
        return "" if isinstance(value, str) else " must be a name"
    if hint is bool:
        return "" if isinstance(value, bool) else " must be true or false"
    if hint not in (int, float):
        return ""
    numbers = (int, float) if hint is float else (int,)
    if isinstance(value, bool) or not isinstance(value, numbers):
        return f" must be of type {hint.__name__}"
    if not abs(value) <= sys.float_info.max:  # false for nan, too
        return " must be a finite number"
    if most is not None and value > most:
        return f" is too large; it can be at most {most}"
    if value < 0 or (value == 0 and not may_be_0):
        return " is too small"
    return f" must be below {below:g}" if below is not None and value >= below else ""
