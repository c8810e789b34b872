"""What a model predicts."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from setmatch.structures.detections import Detections


@dataclass(frozen=True)
class Predictions:
    """What every decoder layer believes; the last layer is the answer."""

    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]  # fractions of the unpadded image
    masks: Float[Tensor, "B Q h w"] | None = None  # logits of the last layer, a cell for 4x4 pixels


@dataclass(frozen=True)
class Assignment:
    """Which query of which image answers for which target, numbered across the batch.

    `query` counts within its image; `target` counts through the concatenated targets of the batch.
    """

    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]


@runtime_checkable
class MaskDecoder(Protocol):
    """Makes the masks of chosen queries, of the last layer: a pair of image and query for each."""

    def __call__(
        self, image: Int[Tensor, " M"], query: Int[Tensor, " M"]
    ) -> Float[Tensor, "M h w"]:
        """Return logits, a cell for 4x4 pixels."""


@dataclass(frozen=True)
class PredictionGroup:
    """Predictions to be trained, and their assignment where it is known beforehand (denoising).

    A known assignment may hold every target several times: `repeats`. A model in training makes
    masks only of the queries that are to learn one, by `mask_decoder`; otherwise the predictions
    have all of them.
    """

    name: str
    predictions: Predictions
    assignment: Assignment | None = None
    repeats: int = 1
    mask_decoder: MaskDecoder | None = None


@dataclass(frozen=True)
class ModelOutput:
    """What a detector returns for a batch: the detections of each image, best first.

    `predictions` are the raw predictions behind them; None if the model makes no set of
    predictions (torchvision's baselines).
    """

    detections: list[Detections]
    predictions: Predictions | None
