"""The type checker that the tests put around every function of the package: beartype."""

from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype

# jaxtyping decorates each method by itself, where beartype cannot know what Self is. As for any
# type checker, an int is a float.
check = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Self: Any}), is_pep484_tower=True))
