"""Cases that the whole check of a change runs, and a quick run of the tests leaves out."""

from collections.abc import Iterable
from typing import Any

import pytest


def usually(cases: Iterable[Any], *usual: Any) -> list[Any]:
    """Return all cases for `parametrize`; those that are not `usual` are marked as thorough.

    The usual ones are of different kinds; the others are further sizes of the same kind.
    """
    cases = list(cases)
    assert set(usual) < set(cases), "an unknown case, or none left out"
    return [
        case if case in usual else pytest.param(case, marks=pytest.mark.thorough) for case in cases
    ]
