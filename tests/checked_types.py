"""The type checker that the tests put around every function of a module with shapes: beartype.

mypy holds the types of the other modules; to check them in each call would cost the tests more time
than the calls themselves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype
from jaxtyping import install_import_hook, jaxtyped

# jaxtyping decorates each method by itself, where beartype cannot know what Self is. As for any
# type checker, an int is a float.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


def check_shapes() -> None:
    """Check every module with shapes that is imported from now on."""
    jaxtyping.jaxtyped = checked  # which the hook calls by this name
    install_import_hook(modules_with_shapes(), "checked_types.check")


def checked(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return a decorator that puts a type checker around a function or data class.

    A function inside another one is made anew in each call, and a checker takes longer to make than
    most of them run. So it gets one only where it writes shapes and these are checked.
    """
    decorate = jaxtyped(typechecker=typechecker)

    def decorated(function: Any) -> Any:
        if "<locals>" in getattr(function, "__qualname__", ""):
            has_shapes = "jaxtyping" in repr(getattr(function, "__annotations__", {}))
            if jaxtyping.config.jaxtyping_disable or not has_shapes:
                return function
        return decorate(function)

    return decorated


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
