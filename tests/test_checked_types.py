"""Shapes of functions are checked, of those inside others too, and only these cost anything."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from checked_types import Checks, check, checked, unchecked
from setmatch.ops.boxes import cxcywh_to_xyxy


def with_shapes() -> Callable[..., Any]:
    def inner(x: Float[Tensor, "N 4"] | None) -> Tensor | None:
        return x

    return inner


def without_shapes() -> Callable[..., Any]:
    def inner(x: Tensor) -> Tensor:
        return x

    return inner


def test_a_wrong_shape_is_an_error():
    with pytest.raises(TypeCheckError):
        cxcywh_to_xyxy(torch.zeros(2, 3))


def test_a_function_inside_another_is_checked_where_it_writes_shapes():
    inner = checked(typechecker=check)(with_shapes())
    inner(torch.zeros(1, 4))
    with pytest.raises(TypeCheckError):
        inner(torch.zeros(1, 3))
    plain = without_shapes()
    assert checked(typechecker=check)(plain) is plain


def test_a_function_inside_another_is_left_alone_while_nothing_is_checked():
    plain = with_shapes()
    with unchecked():
        assert checked(typechecker=check)(plain) is plain


def test_the_result_has_the_axes_of_the_parameters():
    def first(x: Float[Tensor, "N M"], y: Float[Tensor, "M 1"]) -> Float[Tensor, "N 1"]:
        return x[:, :1] if len(y) < 3 else y

    inner = checked(typechecker=check)(first)
    assert len(inner(torch.zeros(4, 2), torch.zeros(2, 1))) == 4
    for wrong in ((torch.zeros(4, 2), torch.zeros(3, 1)), (torch.zeros(4, 3), torch.zeros(3, 1))):
        with pytest.raises(TypeCheckError):
            inner(*wrong)


def test_a_generator_has_axes_of_its_own():
    """It begins to run in the call that takes its first value."""

    def halves(x: Float[Tensor, "N 4"]) -> Iterator[Tensor]:
        yield from x.chunk(2)

    def count(x: Float[Tensor, "N 4"]) -> int:
        return len(list(inner(x[1:])))

    inner = checked(typechecker=check)(halves)
    assert checked(typechecker=check)(count)(torch.zeros(5, 4)) == 2


def test_of_many_calls_in_a_test_the_first_and_some_later_ones_are_checked(
    monkeypatch: pytest.MonkeyPatch,
):
    """In the next test, it starts again."""
    monkeypatch.setattr(Checks, "then_each", 16)
    inner = checked(typechecker=check)(with_shapes())

    def refused(calls: int) -> list[int]:
        found = []
        for number in range(1, calls + 1):
            try:
                inner(torch.zeros(1, 3))
            except TypeCheckError:
                found.append(number)
        return found

    assert refused(40) == [1, 2, 3, 16, 32]
    monkeypatch.setattr(Checks, "test", Checks.test + 1)
    assert refused(5) == [1, 2, 3]
    monkeypatch.setattr(Checks, "then_each", 1)
    assert refused(5) == [1, 2, 3, 4, 5]
