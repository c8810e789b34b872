"""The type checker that the tests put around every function of a module with shapes: beartype.

mypy holds the types of the other modules; to check them in each call would cost the tests more time
than the calls themselves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import jaxtyping
from beartype import BeartypeConf, FrozenDict, beartype

# jaxtyping decorates each method by itself, where beartype cannot know what Self is. As for any
# type checker, an int is a float.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))


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
