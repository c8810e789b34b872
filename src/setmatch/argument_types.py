"""Check what users pass to public functions, in one place: a wrong type is one sentence."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from setmatch.errors import ConfigError, short, suggest

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
# Numbers of numpy count as Python's, and paths of other libraries as Paths.
_ALSO: dict[type, type] = {int: Integral, bool: Integral, float: Real, Path: PathLike}
_WORDS: dict[Any, str] = {
    str: "a string",
    Path: "a Path",
    NoneType: "None",
    None: "None",
    int: "an integer",
    float: "a number",
    bool: "True or False",
    tuple: "a tuple",
    Sequence: "a list",
    Iterable: "a list",
    Mapping: "a dictionary",
    Callable: "a function",
}


def checked_except(
    *names: str, caller: str | None = None
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Return what makes a function check its arguments against their annotations.

    It raises ConfigError that names the argument, its value and what it may be. Only the outermost
    type is checked, and the items of lists of strings. The function itself checks what is inside
    other lists and mappings, and the arguments called `names`. `caller` is what the user has
    called, if it is not the function.
    """

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(function)
        def checking(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            signature = _signature(function)
            for name, value in _bound(function, *args, **kwargs).items():
                annotation = signature.parameters[name].annotation
                if name not in names and not _fits(value, annotation):
                    given = f"{name} = {short(value)} ({type(value).__name__})"
                    where = caller or function.__name__
                    raise ConfigError(f"{where}: {given}; give {_wanted(annotation)}")
            return function(*args, **kwargs)

        return checking

    return decorate


checked = checked_except()


def _bound(
    function: Callable[Parameters, Any], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Mapping[str, object]:
    """Return the arguments by their names; TypeError as Python's names the function, too."""
    signature = _signature(function)
    try:
        return signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        unknown = [name for name in kwargs if name not in signature.parameters]
        advice = f"; {suggest(unknown[0], signature.parameters)}" if unknown else ""
        raise TypeError(f"{function.__name__}() {error}{advice}") from None


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _fits(value: object, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(annotation))
    if origin is Annotated:
        return _fits(value, get_args(annotation)[0])
    if origin is Literal:  # the function names the nearest word
        return type(value) in {type(each) for each in get_args(annotation)}
    kind = origin or (NoneType if annotation is None else annotation)
    if kind is inspect.Parameter.empty or not isinstance(kind, type) or _is_protocol(kind):
        return True
    if kind is Sequence and get_args(annotation) == (str,):
        return _is_list(value) and all(isinstance(each, str) for each in value)
    if kind in (Sequence, Iterable) and isinstance(value, bytes | bytearray):
        return False
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, _ALSO.get(kind, kind))


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_protocol(kind: type) -> bool:
    return getattr(kind, "_is_protocol", False)


def _wanted(annotation: Any) -> str:
    if get_origin(annotation) in (Union, UnionType):
        words = [_wanted(each) for each in get_args(annotation)]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if get_origin(annotation) is Annotated:
        return _wanted(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    if annotation == Sequence[str]:
        return "a list of strings"
    kind = get_origin(annotation) or annotation
    name = getattr(kind, "__name__", str(kind))
    return _WORDS.get(kind, f"{'an' if name[0] in 'AEIOU' else 'a'} {name}")
