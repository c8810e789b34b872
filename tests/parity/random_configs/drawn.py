"""A config that was drawn at random, and the same with a setting that hardly anyone has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Settings = Mapping[str, list[Any]]  # names, and values that they may have


def listed(count: int, each: Callable[[], T]) -> list[T]:
    """Return a list of values that are drawn one after the other."""
    return [each() for _ in range(count)]


@dataclass(frozen=True)
class DrawnConfig:
    """Settings of a backbone and of the rest of a model, and how transformers' config has them.

    `strange` are settings of both that were not drawn, of which `with_strange` takes one. `changed`
    names it.
    """

    build: Callable[[dict[str, Any], dict[str, Any]], Any]
    settings: tuple[dict[str, Any], dict[str, Any]]
    strange: tuple[Settings, Settings]
    changed: str = ""

    def config(self) -> Any:
        """Return the config; raises what transformers does for one that it does not allow."""
        backbone, model = self.settings
        return self.build(dict(backbone), dict(model))

    def with_strange(self, draw: Random) -> "DrawnConfig":
        """Return the same with a strange setting."""
        backbone, model = self.settings
        names = [(part, name) for part in (0, 1) for name in self.strange[part]]
        part, name = draw.choice(names)
        value = {name: draw.choice(self.strange[part][name])}
        changed = (backbone | value, model) if part == 0 else (backbone, model | value)
        return replace(self, settings=changed, changed=name)
