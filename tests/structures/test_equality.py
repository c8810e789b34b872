"""Data that holds tensors or arrays is found in lists: it equals itself alone.

Comparing tensors gives a tensor, which is neither true nor false.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from operator import attrgetter
from types import ModuleType

import pytest
import torch

import setmatch as sm
from setmatch import inference, structures

ROOMS = ("models", "layers", "losses", "data", "data.transforms", "metrics", "engines")


def holds_tensors(kind: type) -> bool:
    arrays = ("Tensor", "ndarray", "Float[", "Int[", "Bool[", "UInt8[", "Int64[")
    return any(
        field.compare and "Callable" not in str(field.type) and name in str(field.type)
        for field in dataclasses.fields(kind)
        for name in arrays
    )


def public() -> Iterator[type]:
    modules: list[ModuleType] = [
        *(sm, inference),
        *(attrgetter(room)(sm) for room in ROOMS),
        *(
            importlib.import_module(f"{structures.__name__}.{found.name}")
            for found in pkgutil.iter_modules(structures.__path__)
        ),
    ]
    for module in modules:
        for name in getattr(module, "__all__", dir(module)):
            kind = getattr(module, name)
            if dataclasses.is_dataclass(kind) and isinstance(kind, type) and holds_tensors(kind):
                yield kind


@pytest.mark.parametrize("kind", sorted(set(public()), key=lambda kind: kind.__qualname__))
def test_data_with_tensors_equals_itself_alone(kind: type):
    assert kind.__eq__ is object.__eq__
    assert kind.__hash__ is object.__hash__


def test_detections_are_found_in_a_list():
    categories = sm.Categories((1,), ("cell",))
    first, second = (
        sm.Detections(
            torch.zeros(2, 4), torch.ones(2), torch.zeros(2, dtype=torch.long), categories, (4, 4)
        )
        for _ in range(2)
    )
    assert [first, second].index(second) == 1
    assert first != second
