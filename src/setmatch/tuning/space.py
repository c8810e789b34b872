"""The space of a search: recipe settings, each with a range or with values to choose from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

Value = bool | int | float | str | list[Any]
Values = Mapping[str, Value]  # by setting

_DIGITS = 4  # of a number from a range of fractions


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included: whole ones in steps of `step`, or fractions.

    With `log` equal factors are equally likely. A `step` of None is for fractions.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | None = None

    def __str__(self) -> str:
        """In words."""
        steps = f", in steps of {self.step}" if self.step is not None and self.step > 1 else ""
        return f"{self.low:g} to {self.high:g}{', logarithmic' if self.log else steps}"

    def __contains__(self, value: object) -> bool:
        """Whether a value of a recipe lies in the range, on a step of it."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        on_a_step = self.step is None or (value - self.low) % self.step == 0
        return self.low <= value <= self.high and on_a_step

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that a recipe must allow, so that it allows all."""
        return self.low, self.high

    def readable(self, value: int | float) -> Value:
        """Return the nearest number of few digits."""
        if self.step is not None:
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), float(self.low)), float(self.high))

    def listed(self) -> list[Value] | None:
        """Return all values; None if they are too many."""
        return (
            None if self.step is None else list(range(int(self.low), int(self.high) + 1, self.step))
        )


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[Value, ...]

    def __str__(self) -> str:
        """In words."""
        return ", ".join(text_of(option) for option in self.options)

    def __contains__(self, value: object) -> bool:
        """Whether a value of a recipe is one of them; 1 is not true."""
        return self.place(value) is not None

    def place(self, value: object) -> int | None:
        """Return the place of a value among the options; None if it is none."""
        same = (
            n for n, each in enumerate(self.options) if type(each) is type(value) and each == value
        )
        return next(same, None)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that a recipe must allow, so that it allows all."""
        return self.options

    def listed(self) -> list[Value] | None:
        """Return all values."""
        return list(self.options)


# By setting, "train.lr", or by several that share a value, joined by +.
Space = Mapping[str, Range | Choice]


def keys_of(name: str) -> list[str]:
    """Return the settings that a name of a space stands for."""
    return name.split("+")


def text_of(value: Value) -> str:
    """Return a value as one writes it in a recipe."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


def overrides_of(values: Values) -> list[str]:
    """Return values as overrides of a recipe."""
    return [f"{key}={json.dumps(value)}" for name, value in values.items() for key in keys_of(name)]


def combinations(space: Space) -> Iterator[dict[str, Value]] | None:
    """Return all values of a space, one after the other; None if they are too many."""
    listed = [values for each in space.values() if (values := each.listed()) is not None]
    if len(listed) < len(space):
        return None
    return (dict(zip(space, chosen, strict=True)) for chosen in product(*listed))
