"""What a model predicts."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from setmatch.structures.detections import Detections


@dataclass(frozen=True)
class Predictions:
    """The predictions of every decoder layer; the last layer's are the model's output."""

    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]  # normalized to the unpadded image
    masks: Float[Tensor, "B Q h w"] | None = None  # logits of the last layer, at stride 4


@dataclass(frozen=True)
class Assignment:
    """Matched pairs of queries and targets, of all images of a batch.

    `query` is an index within its image, `target` one into the concatenated targets of the batch.
    """

    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]


@runtime_checkable
class MaskDecoder(Protocol):
    """Computes the masks of chosen queries of the last layer."""

    def __call__(
        self, image: Int[Tensor, " M"], query: Int[Tensor, " M"]
    ) -> Float[Tensor, "M h w"]:
        """Return the mask logits of each pair of image and query, at stride 4."""


@dataclass(frozen=True)
class PredictionGroup:
    """Predictions that are trained together, such as "main" or "denoising".

    A group without an `assignment` is matched. A known assignment may hold every target several
    times (`repeats`). In training, masks are computed by `mask_decoder` for matched queries alone;
    otherwise the predictions contain them all.
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
