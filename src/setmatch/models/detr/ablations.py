"""The paper's ablations: where positions enter, and whether layers have feed-forward networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from setmatch.models.detr.config import FFN, Position
from setmatch.models.layers.attention.attention import SkipBranch
from setmatch.models.layers.attention.position_encoding import (
    LearnedPosition,
    NoPosition,
    PositionAtAttention,
    PositionAtInput,
    SinePosition,
)
from setmatch.models.layers.encoders.transformer_encoder import Encoder, EncoderWithoutPositions
from setmatch.models.layers.queries.queries import ContentQueries, LearnedQueries

Part = Callable[[int, int], nn.Module]
Layers = TypeVar("Layers", bound=list[Any])  # of an encoder or a decoder


@dataclass(frozen=True)
class PositionPlacement:
    """The places where positions enter: tokens, encoder, queries.

    `tokens` is constructed with (channels, dim), `queries` with (num_queries, dim).
    """

    tokens: Part
    encoder: type[Encoder] = Encoder
    queries: Part = LearnedQueries


def _sine(channels: int, dim: int) -> nn.Module:
    return PositionAtAttention(channels, dim, SinePosition(dim))


def _learned(channels: int, dim: int) -> nn.Module:
    return PositionAtAttention(channels, dim, LearnedPosition(dim))


def _sine_at_input(channels: int, dim: int) -> nn.Module:
    return PositionAtInput(channels, dim, SinePosition(dim), feature_scale=1.0)


# The rows of table 3 of arXiv 2005.12872; the first two add query embeddings at the input only.
POSITIONS: dict[Position, PositionPlacement] = {
    "none": PositionPlacement(NoPosition, queries=ContentQueries),
    "sine_at_input": PositionPlacement(_sine_at_input, queries=ContentQueries),
    "learned": PositionPlacement(_learned),
    "sine_in_decoder": PositionPlacement(_sine, EncoderWithoutPositions),
    "sine": PositionPlacement(_sine),
}


def _unchanged(layers: Layers) -> Layers:
    return layers


def _without_ffn(layers: Layers) -> Layers:
    """Remove the feed-forward network from every layer."""
    for layer in layers:
        layer.ffn, layer.around_ffn = nn.Identity(), SkipBranch()
    return layers


FFNS: dict[FFN, Callable[[Any], Any]] = {"relu": _unchanged, "none": _without_ffn}
