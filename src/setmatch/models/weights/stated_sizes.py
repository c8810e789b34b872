"""Whether config.json describes a model of the sizes that the tensors beside it have."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from setmatch.errors import WeightsError, short

Sizes = Mapping[str, Any]


def _as_it_is(said: Any, _: Sizes) -> Any:
    return tuple(said) if isinstance(said, list) else said


@dataclass(frozen=True)
class StatedSize:
    """A setting of config.json, such as "backbone_config.depths", that gives the shape of tensors.

    `size` is the name of what tensors show, and `computed` is its value by the setting and the
    sizes.
    """

    setting: str
    size: str
    computed: Callable[[Any, Sizes], Any] = _as_it_is


def same(names: Mapping[str, str]) -> tuple[StatedSize, ...]:
    """Return sizes that settings give as they are; keys are settings."""
    return tuple(StatedSize(setting, size) for setting, size in names.items())


def require_stated_sizes(
    config: Mapping[str, Any], sizes: Sizes, stated: Sequence[StatedSize]
) -> None:
    """Compare the settings that config.json has with the `sizes` of the tensors.

    Raises WeightsError that names all which differ.
    """
    problems = []
    for each in stated:
        said = _value(config, each.setting)
        if said is None or each.size not in sizes:
            continue
        if not _agrees(each, said, sizes):
            problems.append(f"{each.setting} = {short(said)} ({each.size} is {sizes[each.size]})")
    if problems:
        raise WeightsError(
            "config.json is that of a model of another size than its tensors have: "
            f"{', '.join(problems)}"
        )


def _agrees(stated: StatedSize, said: Any, sizes: Sizes) -> bool:
    try:
        return bool(stated.computed(said, sizes) == sizes[stated.size])
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError):
        return False  # not even a number


def _value(config: Mapping[str, Any], setting: str) -> Any:
    part, dot, name = setting.partition(".")
    if not dot:
        return config.get(part)
    inner = config.get(part)
    return inner.get(name) if isinstance(inner, Mapping) else None
