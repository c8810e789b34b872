"""Cases that the whole check of a change runs, and a quick run of the tests leaves out."""

from collections.abc import Iterable, Sequence
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


def leave_out_combinations(items: Sequence[pytest.Item]) -> None:
    """Mark combinations of parameters of tests marked as `crossed` as thorough.

    Enough are left that each value of each parameter occurs: the first values of all parameters,
    the second ones, and so on; the fewer ones are repeated.
    """
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("crossed"):
            marks, params = item.iter_markers("parametrize"), item.callspec.params
            places = [_place(mark, params) for mark in marks]
            if not stays(places):
                item.add_marker(pytest.mark.thorough)


def stays(places: Sequence[tuple[int, int]]) -> bool:
    """Return whether a combination stays, by the place and the number of values of each one."""
    rows = range(max(count for _, count in places))
    return any(all(row % count == place for place, count in places) for row in rows)


def _place(mark: pytest.Mark, params: dict[str, Any]) -> tuple[int, int]:
    """Return the place of what a test is given among the cases of a mark, and their number."""
    names = mark.args[0]
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    given = [params[name] for name in names]
    rows = [_row(each, len(names)) for each in mark.args[1]]
    place = next(i for i, row in enumerate(rows) if all(a is b for a, b in zip(row, given)))
    return place, len(rows)


def _row(value: Any, count: int) -> Sequence[Any]:
    """Return the arguments of a case, as `parametrize` takes it."""
    if hasattr(value, "marks"):
        return value.values
    return (value,) if count == 1 else value
