"""One grammar for all commands: every argument by its place or by its name."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cyclopts import App, CoercionError, convert

from setmatch.cli.advice import missing
from setmatch.errors import ConfigError

if TYPE_CHECKING:
    from cyclopts import ArgumentCollection, Token

# Other names of arguments that are usually given by their place.
ALSO = {"convert-weights": {"--model": "SOURCE"}}
_FRACTION = re.compile(r"[+-]?\d*\.\d+")
_KEY_VALUE = re.compile(r"([A-Za-z][\w-]*)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Words:
    """A command's words: those that stand in place, and those that name an argument or option."""

    placed: tuple[str, ...]
    named: tuple[tuple[int, str], ...]  # place of an argument, and its value
    options: tuple[str, ...]


def by_place(app: App, tokens: Sequence[str]) -> list[str]:
    """Return a command line with all arguments by their place, however they were given.

    `--model MODEL` and `--data DATA` stand for the first two arguments of `evaluate`, and so it is
    for each argument of each command. Raises ConfigError for `model=MODEL`, for a name without a
    value, and for an argument that is missing before one that is given by its name.
    """
    verb, *rest = tokens or [""]
    if verb == "help":
        return [*rest[:1], "--help"]
    if verb not in app or verb.startswith("-") or not any("=" in t or t[:2] == "--" for t in rest):
        return list(tokens)
    arguments = app[verb].assemble_argument_collection(parse_docstring=True)
    places = _names_of_places(verb, arguments)
    words = _split(verb, arguments, places, rest)
    _refuse_key_value(verb, {*places, *(n for each in arguments for n in each.names)}, words)
    if not words.named:
        return list(tokens)
    slots = [each for each in arguments if each.index is not None]
    waiting = iter(words.placed)
    filled: list[str] = []
    for place, slot in enumerate(slots):
        values = [value for at, value in words.named if at == place]
        if not values and any(at > place for at, _ in words.named):
            values = [value for value in [next(waiting, None)] if value is not None]
            if not values:
                raise ConfigError(missing(verb, slot, f"{slot.name} is missing"))
        elif not values:
            break
        filled += values
    return [verb, *filled, *waiting, *words.options]


def exact(kind: Any, tokens: Sequence["Token"]) -> Any:
    """Convert words as cyclopts does, but refuse 2.7 for a whole number, which it would round."""
    kinds = get_args(kind) or (kind,)
    if int in kinds and float not in kinds:
        for token in tokens:
            if _FRACTION.fullmatch(token.value) and float(token.value) % 1:
                raise CoercionError(token=token, target_type=kind)
    return convert(kind, tokens)


def _split(
    verb: str,
    arguments: "ArgumentCollection",
    places: Mapping[str, int],
    tokens: Sequence[str],
) -> Words:
    options = {name: each for each in arguments if each.index is None for name in each.names}
    placed: list[str] = []
    named: list[tuple[int, str]] = []
    others: list[str] = []
    rest = iter(tokens)
    for token in rest:
        name, equals, value = token.partition("=")
        if name in places and name not in options:
            given = value if equals else next(rest, "")
            if not given:
                raise ConfigError(f"{verb}: {name} needs a value (see setmatch {verb} --help)")
            named.append((places[name], given))
        elif token.startswith("--"):
            others.append(token)
            if name in options and options[name].hint is not bool and not equals:
                others += [following for following in [next(rest, None)] if following is not None]
        else:
            placed.append(token)
    return Words(tuple(placed), tuple(named), tuple(others))


def _names_of_places(verb: str, arguments: "ArgumentCollection") -> dict[str, int]:
    """Return the place of each argument by its names: SOURCES are also --source."""
    places: dict[str, int] = {}
    for each in arguments:
        if each.index is not None:
            name = f"--{each.name.lower()}"
            places |= {name: each.index, name.removesuffix("s"): each.index}
            places |= {
                other: each.index for other, of in ALSO.get(verb, {}).items() if of == each.name
            }
    return places


def _refuse_key_value(verb: str, known: Collection[str], words: Words) -> None:
    """Raise ConfigError for `epochs=10`, which other programs take, unless it is a file."""
    for word in words.placed:
        found = _KEY_VALUE.fullmatch(word)
        if (
            found
            and not Path(word).exists()
            and (name := f"--{found[1].replace('_', '-')}") in known
        ):
            raise ConfigError(f"{verb}: {word}: write {name} {found[2]}")
