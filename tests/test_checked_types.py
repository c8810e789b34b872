"""Shapes of functions are checked, of those inside others too, and only these cost anything."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from checked_types import check, checked, unchecked
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
