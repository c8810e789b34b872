"""What the paper's ablations move or leave out: positions, and feed-forward networks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from setmatch.models.layers.attention import PassedBy
from setmatch.models.layers.position_encoding import (
    LearnedPosition,
    NoPosition,
    PositionAtAttention,
    PositionAtInput,
    SinePosition,
)
from setmatch.models.layers.queries import LearnedContent, LearnedQueries
from setmatch.models.layers.transformer_encoder import Encoder, UnplacedEncoder

Part = Callable[[int, int], nn.Module]
Layers = TypeVar("Layers", bound=list[Any])  # of an encoder or a decoder


@dataclass(frozen=True)
class Placing:
    """Where positions enter: with the tokens, in the encoder or not, and with the queries.

    `tokens` is built of (channels, dim), `queries` of (number, dim).
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


# The rows of table 3 of arXiv 2005.12872; the first two place queries at the input alone, too.
POSITIONS = {
    "none": Placing(NoPosition, queries=LearnedContent),
    "sine_at_input": Placing(_sine_at_input, queries=LearnedContent),
    "learned": Placing(_learned),
    "sine_in_decoder": Placing(_sine, UnplacedEncoder),
    "sine": Placing(_sine),
}


def _as_built(layers: Layers) -> Layers:
    return layers


def _without_ffn(layers: Layers) -> Layers:
    """Leave attention alone in every layer (an ablation of the paper)."""
    for layer in layers:
        layer.ffn, layer.around_ffn = nn.Identity(), PassedBy()
    return layers


FFNS = {"relu": _as_built, "none": _without_ffn}
