"""The type checker that the tests put around every function of a module with shapes: beartype.

mypy holds the types of the other modules; to check them in each call would cost the tests more time
than the calls themselves.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper, wraps
from importlib.util import find_spec
from inspect import isgeneratorfunction
from pathlib import Path
from types import FunctionType
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError, install_import_hook, jaxtyped
from jaxtyping._storage import pop_shape_memo, push_shape_memo

# jaxtyping decorates each method by itself, where beartype cannot know what Self is. As for any
# type checker, an int is a float.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


class Checks:
    """Which calls are checked: in each test the first ones of a function, then one of many.

    The later ones mostly come from the steps of a training, whose shapes are those of the first.
    """

    test = 0  # a number of the test that runs
    first = 3
    then_each = 16


def check_shapes() -> None:
    """Check every module with shapes that is imported from now on."""
    jaxtyping.jaxtyped = checked  # which the hook calls by this name
    install_import_hook(modules_with_shapes(), "checked_types.check")


def checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a decorator that puts a type checker around a function or data class.

    A function inside another one is made anew in each call, and a checker takes longer to make than
    most of them run. So it gets one only where it writes shapes and these are checked.
    """

    def decorated(function: Any) -> Any:
        if isinstance(function, FunctionType):
            inner = "<locals>" in function.__qualname__
            if inner and (jaxtyping.config.jaxtyping_disable or not writes_shapes(function)):
                return function
            if isgeneratorfunction(function):  # runs later, among the axes of another call
                return jaxtyped(typechecker=typechecker)(function)
            return with_checks(function, typechecker)
        if dataclasses.is_dataclass(function) and "__init__" in vars(function):
            function.__init__ = with_checks(function.__init__, typechecker)
        return function

    return decorated


def writes_shapes(function: FunctionType) -> bool:
    """Return whether a shape is among the annotations of a function."""
    return "jaxtyping" in repr(function.__annotations__)


def with_checks(function: FunctionType, typechecker: Callable[..., Any]) -> FunctionType:
    """Return a function whose call checks its parameters and its result, while shapes are checked.

    All axes of a call share their sizes, as by `jaxtyping.jaxtyped`, which binds the arguments in
    each call, and checks the parameters twice. Of many calls in a test, only some are checked. A
    checker is made at the first one, for most functions are never called in a process.
    """
    within: Callable[..., Any] | None = None
    test = calls = 0

    @wraps(function)
    def call(*positional: Any, **named: Any) -> Any:
        nonlocal test, calls, within
        if test != Checks.test:
            test, calls = Checks.test, 0
        calls += 1
        is_left_out = calls > Checks.first and calls % Checks.then_each
        if is_left_out or jaxtyping.config.jaxtyping_disable:
            return function(*positional, **named)
        if within is None:
            within = typechecker(destringed(function))
        push_shape_memo({})
        try:
            return within(*positional, **named)
        except BeartypeCallHintViolation as error:
            raise TypeCheckError(str(error)) from error
        finally:
            pop_shape_memo()

    return call  # type: ignore[return-value]


def destringed(function: FunctionType) -> FunctionType:
    """Return a copy of a function whose annotations name nothing: a string may be no type here."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    update_wrapper(copy, function)
    del copy.__wrapped__
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = {
        name: Any if isinstance(hint, str) else hint
        for name, hint in function.__annotations__.items()
    }
    return copy


def modules_with_shapes() -> list[str]:
    """Return the modules of the package that write shapes into signatures, by full name."""
    spec = find_spec("setmatch")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return [
        ".".join(("setmatch", *path.relative_to(package).with_suffix("").parts))
        for path in package.rglob("*.py")
        if "from jaxtyping import" in path.read_text("utf-8")
    ]


@contextmanager
def unchecked() -> Iterator[None]:
    """Check nothing for a while: comparing sizes while tracing would fix them in the graph."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
