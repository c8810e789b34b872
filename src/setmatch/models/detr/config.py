"""Settings of the DETR family."""

from dataclasses import dataclass, replace
from typing import Literal

from setmatch.models.config import Width


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
