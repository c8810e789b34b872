"""What a model predicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.errors import ConfigError
from setmatch.structures.batch import Target
from setmatch.structures.detections import Detections
from setmatch.structures.tensor_checks import described, is_floating, require_one_device

_WANTED = {
    "name": 'a string, such as "main"',
    "predictions": "a setmatch.Predictions",
    "assignment": "an Assignment, or None",
    "edges": "an EdgeDistributions, or None",
    "targets": "a setmatch.Target for each image, or None",
}
LARGEST_FRACTION = 20.0  # no box of a model that predicts fractions is as large


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of every decoder layer; the last layer's are the model's output.

    Raises ConfigError for other types, shapes or devices; no value is read.
    """

    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]  # normalized to the unpadded image
    masks: Float[Tensor, "B Q h w"] | None = None  # logits of the last layer, at stride 4

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():  # whose sizes are symbols
            _require_predictions(self)


@dataclass(frozen=True, eq=False)
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


@dataclass(frozen=True, eq=False)
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
    itself. `targets` replace those of the images, such as objects without their classes. Raises
    ConfigError for parts of other types, or that do not fit together.
    """

    name: str
    predictions: Predictions
    assignment: Assignment | None = None
    repeats: int = 1
    mask_decoder: MaskDecoder | None = None
    edges: EdgeDistributions | None = None
    query_groups: int = 1
    targets: tuple[Target, ...] | None = None

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():
            _require_group_parts(self)


def require_groups(groups: Any) -> None:
    """Raise ConfigError unless `groups` is a sequence of groups whose shapes fit together."""
    what = "a criterion takes what a model returns, a tuple of setmatch.PredictionGroup"
    given = groups if isinstance(groups, list | tuple) else [groups]
    if groups is not given or not given:
        raise ConfigError(f"{what}, but got {described(groups)}")
    for group in given:
        if not isinstance(group, PredictionGroup):
            raise ConfigError(f"{what}, but it holds {described(group)}")
    images = given[0].predictions.logits.shape[1]
    for group in given:
        layers, its_images, queries, _ = group.predictions.logits.shape
        needs_query = group is given[0]  # denoising has none for images without objects
        if its_images != images or not layers or (needs_query and not queries):
            raise ConfigError(
                f"group {group.name}: {layers} layers, {its_images} images and {queries} queries; "
                f"group {given[0].name} has {images} images, each group at least one layer, and "
                "the first one a query"
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


def _require_predictions(predictions: Predictions) -> None:
    logits: Any = predictions.logits
    cxcywh: Any = predictions.cxcywh
    masks: Any = predictions.masks
    are_logits = is_floating(logits, None, None, None, None)
    if not are_logits or not is_floating(cxcywh, *logits.shape[:3], 4):
        raise ConfigError(
            f"Predictions: logits are {described(logits)} and boxes {described(cxcywh)}; they "
            "should be floating-point tensors (layers, images, queries, classes) and (layers, "
            "images, queries, 4)"
        )
    if masks is not None and not is_floating(masks, *logits.shape[1:3], None, None):
        raise ConfigError(
            f"Predictions: masks are {described(masks)}; they should be a floating-point tensor "
            f"({logits.shape[1]} images, {logits.shape[2]} queries, height, width), of the last "
            "layer"
        )
    on_device = {"logits": logits, "boxes": cxcywh} | ({} if masks is None else {"masks": masks})
    require_one_device("Predictions", **on_device)


def _require_group_parts(group: PredictionGroup) -> None:
    parts: tuple[tuple[str, Any, Any], ...] = (
        ("name", group.name, str),
        ("predictions", group.predictions, Predictions),
        ("assignment", group.assignment, Assignment | None),
        ("edges", group.edges, EdgeDistributions | None),
        ("targets", group.targets, tuple | list | None),
    )
    for name, value, kind in parts:
        if not isinstance(value, kind):
            raise ConfigError(
                f"PredictionGroup: {name} is {described(value)}; it should be {_WANTED[name]}"
            )
    for target in group.targets or ():
        if not isinstance(target, Target):
            raise ConfigError(
                f"PredictionGroup: targets hold {described(target)}; they should be "
                f"{_WANTED['targets']}"
            )
    queries = group.predictions.logits.shape[2]
    counts = (group.repeats, group.query_groups)
    if not all(isinstance(count, int) and count >= 1 for count in counts):
        raise ConfigError(
            f"group {group.name}: repeats = {group.repeats} and query_groups = "
            f"{group.query_groups}; both are whole numbers from 1 on"
        )
    if queries % group.query_groups:
        raise ConfigError(
            f"group {group.name}: {queries} queries cannot be divided into {group.query_groups} "
            "equal query_groups"
        )
