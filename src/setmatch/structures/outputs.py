"""What a model predicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from setmatch.errors import ConfigError
from setmatch.structures.batch import Target
from setmatch.structures.detections import Detections

LARGEST_FRACTION = 20.0  # no box of a model that predicts fractions is as large


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
class EdgeDistributions:
    """How far the left, top, right and bottom edges of boxes move: a distribution for each.

    Bin n moves an edge outwards by `bins[n]` / `per_side` sides of the box that it starts from.
    """

    logits: Float[Tensor, "L B Q 4 N"]
    start_cxcywh: Float[Tensor, "B Q 4"]
    bins: Float[Tensor, " N"]
    per_side: Float[Tensor, "1"]


@dataclass(frozen=True)
class PredictionGroup:
    """Predictions that are trained together, such as "main" or "denoising".

    A group without an `assignment` is matched. A known assignment may hold every target several
    times (`repeats`). In training, masks are computed by `mask_decoder` for matched queries alone;
    otherwise the predictions contain them all. `edges` are the distributions behind the boxes of a
    model that predicts those. Each of `query_groups` equal parts of the queries is matched by
    itself. `targets` replace those of the images, such as objects without their classes.
    """

    name: str
    predictions: Predictions
    assignment: Assignment | None = None
    repeats: int = 1
    mask_decoder: MaskDecoder | None = None
    edges: EdgeDistributions | None = None
    query_groups: int = 1
    targets: tuple[Target, ...] | None = None


def require_groups(groups: Any) -> None:
    """Raise ConfigError unless `groups` is a sequence of groups whose shapes fit together."""
    what = "a criterion takes what a model returns, a tuple of setmatch.PredictionGroup"
    given = groups if isinstance(groups, list | tuple) else [groups]
    if groups is not given or not given:
        raise ConfigError(f"{what}, but got a value of type {type(groups).__name__}")
    for group in given:
        if not isinstance(group, PredictionGroup) or not isinstance(group.predictions, Predictions):
            raise ConfigError(f"{what}, but it holds a value of type {type(group).__name__}")
        logits, cxcywh = group.predictions.logits.shape, group.predictions.cxcywh.shape
        if len(logits) != 4 or cxcywh != (*logits[:3], 4):
            raise ConfigError(
                f"group {group.name}: logits of shape {tuple(logits)} and boxes of shape "
                f"{tuple(cxcywh)}; they should be (layers, images, queries, classes) and (layers, "
                "images, queries, 4)"
            )


def require_fractions(groups: Sequence[PredictionGroup]) -> None:
    """Raise ConfigError if boxes are far too large for fractions of an image, as pixels are.

    Boxes that are not finite raise nothing: a step on them is skipped, and no run ends.
    """
    for group in groups:
        if not group.predictions.cxcywh.numel():
            continue
        largest = group.predictions.cxcywh.detach().abs().amax().item()
        if LARGEST_FRACTION < largest < math.inf:
            raise ConfigError(
                f"group {group.name}: predicted boxes reach {largest:.4g}; they should be center "
                "x, center y, width and height as fractions of the image, not pixels"
            )


@dataclass(frozen=True)
class ModelOutput:
    """What a detector returns for a batch: the detections of each image, best first.

    `predictions` are the raw predictions behind them; None if the model makes no set of
    predictions (torchvision's baselines).
    """

    detections: list[Detections]
    predictions: Predictions | None
