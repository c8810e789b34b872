"""What is wrong with a value that a user gives: its type, shape or device, never its values.

Nothing here reads from a device, so that a training step can check what it is given.
"""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from setmatch.errors import ConfigError, DataError, short


def described(value: Any) -> str:
    """Return the type and shape of a value, as an error message shows it."""
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a {kind} tensor of shape {tuple(value.shape)}"
    return f"a value of type {type(value).__name__}"


def require_kind(what: str, value: Any, kind: type, advice: str = "") -> None:
    """Raise ConfigError unless `value` is an instance of `kind`, which may be a protocol."""
    # A class has the methods of a protocol, too, but it is not an instance.
    if isinstance(value, type) or not isinstance(value, kind):
        given = f"{short(value)} ({type(value).__name__})"
        raise ConfigError(f"{what} = {given}; give a {kind.__name__}{advice}")


def is_floating(value: Any, *shape: int | None) -> bool:
    """Return whether a value is a floating-point tensor of a shape; None stands for any size."""
    return _has_shape(value, shape) and value.is_floating_point()


def is_whole(value: Any, *shape: int | None) -> bool:
    """Return whether a value is a tensor of whole numbers of a shape; None is any size."""
    if not _has_shape(value, shape):
        return False
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def is_size_px(value: Any) -> bool:
    """Return whether a value is the (height, width) of an image."""
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(side, Integral) and int(side) > 0 for side in value)
    )


def require_one_device(what: str, **tensors: Tensor) -> None:
    """Raise DataError if the tensors are not all on one device."""
    devices = {name: tensor.device for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        places = " and ".join(f"{name} on {device}" for name, device in devices.items())
        raise DataError(f"{what}: {places}; move them to one device with .to(device)")


def _has_shape(value: Any, shape: tuple[int | None, ...]) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == len(shape)
        and all(wanted in (None, size) for wanted, size in zip(shape, value.shape, strict=True))
    )
