"""What one image made a detector do: attention weights and the predictions of every layer."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from setmatch.structures.outputs import Predictions


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Dense cross-attention: the weight of each feature map cell, by decoder layer, head and query.

    Cells are in row-major order and cover the image together.
    """

    weights: Float[Tensor, "L H Q N"]  # of a query and head, they add up to 1
    grid: tuple[int, int]  # rows, columns


@dataclass(frozen=True, eq=False)
class SamplingPoints:
    """Deformable cross-attention: sampling points and weights, by decoder layer, head and query.

    `level` is the feature map of a point, 0 the finest. Points may lie outside the image.
    """

    places: Float[Tensor, "L H Q P 2"]  # x, y as fractions of the image
    weights: Float[Tensor, "L H Q P"]  # of a query and head, they add up to 1
    level: Int[Tensor, " P"]


@dataclass(frozen=True, eq=False)
class QueryPredictions:
    """The best class of every query, its confidence score and its box."""

    class_index: Int[Tensor, " Q"]
    score: Float[Tensor, " Q"]
    cxcywh: Float[Tensor, "Q 4"]  # fractions of the image


@dataclass(frozen=True, eq=False)
class AttentionTrace:
    """The attention of one forward pass on one image; every tensor is on the CPU.

    `start` are the queries' predictions before the decoder, None for learned queries. `after` are
    those after each decoder layer, None for layers that are not trained to predict. Attention of
    the encoder and among queries is averaged over heads. E is 0 for an encoder without layers.
    """

    predictions: Predictions
    start: QueryPredictions | None
    after: tuple[QueryPredictions | None, ...]
    cross_attention: AttentionMaps | SamplingPoints
    self_attention: Float[Tensor, "L Q Q"]  # weight of each query (column) for each query (row)
    encoder: Float[Tensor, "E N N"]  # weight of each cell (column) for each cell (row)
    encoder_grid: tuple[int, int]
