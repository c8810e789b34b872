"""Arguments of the DETR family."""

from dataclasses import dataclass, replace
from typing import Literal

from setmatch.models.config import MOST_CHANNELS, MOST_LAYERS, Width, argument

Position = Literal["none", "sine_at_input", "learned", "sine_in_decoder", "sine"]
Norm = Literal["post", "pre"]
FFN = Literal["relu", "none"]


@dataclass(frozen=True)
class TransformerShape(Width):
    """Depth and width of the transformer; the defaults are the published ones."""

    encoder_layers: int = argument(6, may_be_0=True, most=MOST_LAYERS)
    decoder_layers: int = argument(6, most=MOST_LAYERS)
    ffn_dim: int = argument(2048, most=16 * MOST_CHANNELS)
    dropout: float = argument(0.1, may_be_0=True, below=1.0, shapes_weights=False)


@dataclass(frozen=True)
class DetrShape(TransformerShape):
    """Arguments of every DETR preset but the demo."""

    position: Position = "sine"
    norm: Norm = "post"
    ffn: FFN = "relu"
    no_object_weight: float = argument(0.1, most=1000, shapes_weights=False)


TINY = DetrShape(num_queries=50, dim=128, encoder_layers=3, decoder_layers=3, ffn_dim=512)
SMALLEST = replace(TINY, num_queries=8, dim=64, heads=4, ffn_dim=128, dropout=0.0)
