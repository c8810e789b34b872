"""The parts of a training loss: what a model minimizes, and the terms it is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from setmatch.losses.classification import ClassificationLoss, MatchedQueries
from setmatch.losses.masks import mask_losses
from setmatch.losses.normalizer import LossNormalizer
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup


@runtime_checkable
class LossOutput(Protocol):
    """The loss of a micro-batch: a total to minimize, and detached terms by name for the log."""

    @property
    def total(self) -> Float[Tensor, ""]:
        """The micro-batch's part of the step's loss, with its gradient."""

    @property
    def terms(self) -> dict[str, Tensor]:
        """Detached scalars for the log: "loss", which is the total, and its terms by name."""


@runtime_checkable
class Loss(Protocol):
    """Turns the training outputs of a model into a loss."""

    def __call__(
        self, outputs: Any, targets: Sequence[Target], normalizer: LossNormalizer, /
    ) -> LossOutput:
        """Return the loss of a micro-batch. `normalizer` counts the targets of the whole step."""


@dataclass(frozen=True, eq=False)
class MatchedPredictions:
    """A prediction group and its matched targets: the input of every loss term.

    The matched pairs of all layers are flat (M), layer after layer. Every layer has equally many,
    so `view(layers, -1)` gives one row per layer. All values are float32, under any autocast.
    """

    group: PredictionGroup
    class_loss: ClassificationLoss
    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]  # normalized to the unpadded image
    pairs: MatchedQueries
    predicted_cxcywh: Float[Tensor, "M 4"]
    predicted_xyxy: Float[Tensor, "M 4"]
    target_cxcywh: Float[Tensor, "M 4"]
    target_xyxy: Float[Tensor, "M 4"]
    targets: Sequence[Target]
    last_assignment: Assignment  # of the last layer
    normalizer: LossNormalizer
    first_kinds: Float[Tensor, "2"]  # matched and other queries of the first group, in the step

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return self.logits.shape[0]

    @cached_property
    def num_boxes(self) -> Float[Tensor, ""]:
        """Number of target boxes of the step, at least 1: what box and mask losses divide by."""
        return self.normalizer.boxes.clamp(min=1)

    @cached_property
    def mask_losses(self) -> Float[Tensor, "2"] | None:
        """Focal and DICE loss of the last layer's masks; None if the group predicts no masks."""
        return mask_losses(self.group, self.last_assignment, self.targets, self.num_boxes)


@dataclass(frozen=True)
class LossTerm:
    """One named term of the set loss.

    `function` returns one value per decoder layer, a scalar for the last layer alone, or None if
    the group lacks what the term needs. Its value must add up over micro-batches: divide by the
    counts of `MatchedPredictions.normalizer`. `name` is the term's name in the log, the curves and
    the progress display. `weight` is its key in the recipe's `loss` section; a term without a
    weight is logged but not trained. A term that `pools` is computed on the matches of all layers
    where the recipe says so (`loss.pooled_matches`).

    Example: `LossTerm("aspect", "aspect", aspect_loss)` reads the weight `loss.extra.aspect`.
    """

    name: str
    weight: str | None
    function: Callable[[MatchedPredictions], Float[Tensor, " L"] | Float[Tensor, ""] | None]
    pools: bool = False
