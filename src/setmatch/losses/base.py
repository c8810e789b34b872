"""What every step minimizes, whichever model learns: the share of its window's loss."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from setmatch.losses.classification import LossCounts
from setmatch.structures.batch import Target


@runtime_checkable
class Window(Protocol):
    """What losses are divided by: the counts of all micro-batches and processes of a step."""

    def times(self, repeats: int) -> LossCounts:
        """Return the counts where every target stands `repeats` times."""


@runtime_checkable
class LossOutput(Protocol):
    """What a micro-batch teaches: a share to minimize, and detached terms by name for the log."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """The micro-batch's share of the window's loss, with its gradient."""

    @property
    def terms(self) -> dict[str, Tensor]:
        """What the log shows: "loss", which is the total, and its parts."""


@runtime_checkable
class Loss(Protocol):
    """Turns what a model in training returns into losses."""

    def __call__(self, outputs: Any, targets: Sequence[Target], normalizer: Any, /) -> LossOutput:
        """Return the losses of a micro-batch; `normalizer` is the `Window` it belongs to."""
