"""Random weights of large layers in a tenth of the time: one block of random numbers, repeated.

Building a published model draws a hundred million random numbers, and often twice; no test asks
more of them than their distribution, that a seed repeats them, and that no two rows are equal.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 65_537  # a prime number, so that each row of a matrix begins at another place of the block
_LARGEST = [BLOCK]  # of the tensors that are filled with different numbers


@contextmanager
def all_different() -> Iterator[None]:
    """Repeat nothing for a while: sums of what is repeated have errors that do not average out."""
    _LARGEST[0] = sys.maxsize
    try:
        yield
    finally:
        _LARGEST[0] = BLOCK


def repeat_random_numbers() -> None:
    """Let `uniform_` and `normal_` fill large tensors on the CPU with repeated random numbers."""
    Tensor.uniform_ = _repeated(Tensor.uniform_)  # type: ignore[method-assign]
    Tensor.normal_ = _repeated(Tensor.normal_)  # type: ignore[method-assign]


def _repeated(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def filled(tensor: Tensor, *positional: Any, **named: Any) -> Tensor:
        is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.device.type == "cpu"
        if not is_plain or tensor.numel() <= _LARGEST[0] or not tensor.is_contiguous():
            return fill(tensor, *positional, **named)
        with torch.no_grad():
            block = fill(tensor.new_empty(BLOCK), *positional, **named)
            flat, whole = tensor.view(-1), tensor.numel() // BLOCK * BLOCK
            flat[:whole].view(-1, BLOCK).copy_(block)
            flat[whole:].copy_(block[: len(flat) - whole])
        return tensor

    return filled
