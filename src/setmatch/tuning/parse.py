"""Parse what to search, in the syntax of `--search`.

train.lr=1e-5:1e-3:log                          a range; equal factors are equally likely
train.clip_norm=0.1:1                           a range
data.short_side_px=256:640:64                   a range in steps of 64
data.augment=small,flip                         values
data.short_side_px+data.long_side_px=512,640    values that several settings share
"""

import re
from collections.abc import Sequence
from typing import Any

from setmatch.config import Recipe
from setmatch.errors import ConfigError, short
from setmatch.files.safe_yaml import YamlError, parse_yaml
from setmatch.recipe_text import load_recipe
from setmatch.training.recipe_variants import sketch
from setmatch.tuning.space import Choice, Range, Space, Value, keys_of, overrides_of

DEFAULT = "default"

_NUMBER = r"[-+]?(?:\d{1,15}\.?\d{0,15}|\.\d{1,15})(?:[eE][-+]?\d{1,3})?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*:\s*({_NUMBER})\s*(?::\s*(\S+)\s*)?")
_KEY = re.compile(r"[^.+\s]+(\.[^.+\s]+)+")
_FRACTION = 0.618  # of a range, where no whole number is likely
_EXAMPLES = "train.lr=1e-5:1e-3:log, train.clip_norm=0.1:1 or data.augment=small,flip"


def parse_space(
    searches: Sequence[str], overrides: Sequence[str], recipe: Recipe, default: Space
) -> Space:
    """Return the space that `searches` describe; without any, and for "default", the default one.

    Settings that `overrides` fix are left out of the default space. Raises ConfigError for a string
    of another form, for a setting that is named twice, and for values that `recipe` does not allow.
    """
    fixed = {override.partition("=")[0].strip() for override in overrides}
    own: dict[str, Range | Choice] = {}
    for text in searches:
        if text.strip() == DEFAULT:
            continue
        name, searched = parse_search(text, recipe)
        for key in keys_of(name):
            if key in fixed:
                raise ConfigError(f"--search {text}: --set fixes {key}; leave one of them out")
            if any(key in keys_of(other) for other in own):
                raise ConfigError(f"--search {text}: {key} is searched twice; name it once")
        own[name] = searched
    wants_default = not own or any(text.strip() == DEFAULT for text in searches)
    taken = fixed | {key for name in own for key in keys_of(name)}
    chosen = default if wants_default else {}
    space = {name: each for name, each in chosen.items() if not taken & {*keys_of(name)}} | own
    if not space:
        raise ConfigError(
            "nothing to search: --set fixes all that is searched by default; add --search, such as "
            f"{_EXAMPLES}"
        )
    return space


def parse_search(text: str, recipe: Recipe) -> tuple[str, Range | Choice]:
    """Return the setting that `--search` names, and what to try for it; raise ConfigError."""
    left, equals, right = text.partition("=")
    keys = [key.strip() for key in left.split("+")]
    if not equals or not right.strip() or not all(map(_KEY.fullmatch, keys)):
        raise ConfigError(f"--search {_cut(text)}: expected SETTING=VALUES, such as {_EXAMPLES}")
    if len({*keys}) < len(keys):
        raise ConfigError(f"--search {_cut(text)}: a setting is named twice")
    found = _RANGE.fullmatch(right)
    name = "+".join(keys)
    if found is None:
        choice = _choice(text, right)
        _loaded(text, name, choice.options, recipe)
        return name, choice
    low, high = _number(found[1]), _number(found[2])
    if not low < high:
        raise ConfigError(f"--search {text}: the first number must be below the second")
    allowed = _loaded(text, name, (low, high), recipe)
    whole = all(isinstance(value, int) for value in allowed)
    if not whole:  # of several settings, one may take whole numbers only
        _loaded(text, name, (low + _FRACTION * (high - low),), recipe)
    return name, _range(text, low, high, whole, found[3])


def _range(text: str, low: float, high: float, whole: bool, how: str | None) -> Range:
    if how == "log":
        if low <= 0:
            raise ConfigError(f"--search {text}: a logarithmic range starts above 0")
        return Range(low, high, log=True, step=1 if whole else None)
    if how is None:
        return Range(low, high, step=1 if whole else None)
    if not whole or not re.fullmatch(r"[1-9]\d{0,8}", how) or int(how) > high - low:
        raise ConfigError(
            f"--search {text}: {_cut(how)} is neither log nor a step between whole numbers; write "
            f"LOW:HIGH, LOW:HIGH:log or LOW:HIGH:STEP, such as {_EXAMPLES}"
        )
    step = int(how)
    return Range(low, low + (high - low) // step * step, step=step)


def _choice(text: str, values: str) -> Choice:
    try:
        parsed = parse_yaml(f"[{values}]")
    except YamlError:
        parsed = []
    options: list[Value] = []
    for value in parsed:
        option = _as_number(value)
        if not any(type(option) is type(each) and option == each for each in options):
            options.append(option)
    if len(options) < 2:
        raise ConfigError(
            f"--search {_cut(text)}: expected a range or at least two values, such as {_EXAMPLES}; "
            "--set gives a setting one value"
        )
    return Choice(tuple(options))


def _loaded(text: str, name: str, values: Sequence[Value], recipe: Recipe) -> list[Any]:
    """Return the values as the recipe holds them; raise ConfigError for one that it refuses."""
    tree, held = recipe.model_dump(by_alias=True, exclude_none=True), []
    for value in values:
        try:
            changed = load_recipe(tree, overrides_of({name: value}))
            if name.startswith("model."):
                sketch(changed.model)
        except ConfigError as error:
            reason = str(error).removeprefix("the recipe with --set: ")
            raise ConfigError(f"--search {_cut(text)}: {reason}") from None
        held += [value_at(changed, key) for key in keys_of(name)]
    return held


def value_at(recipe: Recipe, key: str) -> Any:
    """Return the value of a setting; None if the recipe has none of that name."""
    branch: Any = recipe.model_dump(by_alias=True)
    for part in key.split("."):
        branch = branch.get(part) if isinstance(branch, dict) else None
    return branch


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)


def _as_number(value: Any) -> Any:
    """Return a number that YAML 1.1 reads as a string, such as 1e-4."""
    return float(value) if isinstance(value, str) and re.fullmatch(_NUMBER, value) else value


def _cut(text: str) -> str:
    return short(text)[1:-1] if len(text) > 60 else text
