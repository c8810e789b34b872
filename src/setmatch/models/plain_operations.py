"""The form of a model in which it leaves PyTorch: the same results, by operations found everywhere.

A part that is fast in PyTorch by operations that other runtimes lack, or by a choice that depends
on the image size, has a method `plain` that returns its plain form.
"""

from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@runtime_checkable
class HasPlainForm(Protocol):
    """A part of a model that has a plain form."""

    def plain(self) -> nn.Module:
        """Return a module with the same call, results and weights, of plain operations."""


def with_plain_operations(model: Model) -> Model:
    """Replace every part of `model` that has a plain form by it, and return the model."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, HasPlainForm):
                setattr(parent, name, part.plain())
    return model
