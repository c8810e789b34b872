"""What may differ between models of one preset: depth, width, queries; and what fits together."""

import dataclasses
import difflib
from dataclasses import dataclass, replace
from typing import Any, Literal

from setmatch.errors import ConfigError
from setmatch.models.ablated import FFNS, POSITIONS
from setmatch.models.baselines import NORMS
from setmatch.structures.metadata import Card

CHOICES: dict[str, tuple[str, ...]] = {
    "position": tuple(POSITIONS),
    "norm": ("post", "pre"),
    "ffn": tuple(FFNS),
    "batch_norm": tuple(NORMS),
}
MAY_BE_0 = ("dropout", "encoder_layers")


@dataclass(frozen=True)
class Width:
    """Queries and width of any model, and what must fit together in them."""

    num_queries: int = 100
    dim: int = 256
    heads: int = 8

    def complaint(self) -> str:
        """Return what does not fit together, or nothing."""
        if self.dim % self.heads == 0 and self.dim % 4 == 0:
            return ""
        return (
            f"dim = {self.dim} must be a multiple of heads = {self.heads}, and of 4 for the "
            "positions"
        )


@dataclass(frozen=True)
class TransformerShape(Width):
    """Depth, width and queries of a transformer; the defaults are the published ones."""

    encoder_layers: int = 6
    decoder_layers: int = 6
    ffn_dim: int = 2048
    dropout: float = 0.1


@dataclass(frozen=True)
class DetrShape(TransformerShape):
    """What may differ between DETR models of one trunk."""

    position: Literal["none", "sine_at_input", "learned", "sine_in_decoder", "sine"] = "sine"
    norm: Literal["post", "pre"] = "post"
    ffn: Literal["relu", "none"] = "relu"
    no_object_weight: float = 0.1


TINY = DetrShape(num_queries=50, dim=128, encoder_layers=3, decoder_layers=3, ffn_dim=512)
SMALLEST = replace(TINY, num_queries=8, dim=64, heads=4, ffn_dim=128, dropout=0.0)


@dataclass(frozen=True)
class MultiScaleShape(Width):
    """Depth, width and queries of the fast-converging family."""

    encoder_layers: int = 1
    decoder_layers: int = 3
    ffn_dim: int = 1024
    points: int = 4
    denoising_queries: int = 100


@dataclass(frozen=True)
class TimmShape(MultiScaleShape):
    """The same, on a trunk that timm knows by name."""

    trunk: str = "resnet18"


NANO = MultiScaleShape(
    dim=64, heads=4, decoder_layers=2, ffn_dim=256, num_queries=60, denoising_queries=48
)


def fitted(default: Any, card: Card) -> Any:
    """Return the shape `default` with the arguments of `card`.

    Raises ConfigError for an argument that does not exist, with the nearest that does, or whose
    value cannot be.
    """
    fields = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    for key, value in card.arguments.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise ConfigError(f"model {card.preset}: no argument {key}; {hint}")
        _check(card.preset, key, value, fields[key])
    shape = dataclasses.replace(default, **card.arguments)
    if shape.complaint():
        raise ConfigError(f"model {card.preset}: {shape.complaint()}")
    return shape


def _check(preset: str, key: str, value: object, default: object) -> None:
    """Refuse an argument of another kind than its default, or out of its range."""
    what = f"model {preset}: {key} = {value!r}"
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise ConfigError(f"{what}; it can be {' or '.join(CHOICES[key])}")
        return
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ConfigError(f"{what} must be a name")
        return
    kinds = (int, float) if isinstance(default, float) else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(f"{what} must be of type {type(default).__name__}")
    if value < 0 or (value == 0 and key not in MAY_BE_0):
        raise ConfigError(f"{what} is too small")
    if key == "dropout" and value >= 1:
        raise ConfigError(f"{what} must be below 1")
