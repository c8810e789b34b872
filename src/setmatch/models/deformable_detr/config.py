"""Arguments of the Deformable DETR family: sizes of the backbone, the encoder and the decoder."""

from dataclasses import dataclass, replace
from typing import Literal

from setmatch.models.backbones.resnet import ResNetName
from setmatch.models.config import MOST_CHANNELS, MOST_LAYERS, MOST_QUERIES, Width, argument
from setmatch.models.layers.encoders.deformable_encoder import NORM_GROUPS

MOST_LEVELS, MOST_POINTS = 8, 64


@dataclass(frozen=True)
class DeformableShape(Width):
    """Every size of a Deformable DETR; the defaults are the published ones.

    `levels` is 1, the coarsest map of the backbone alone, or 3 and more: its last three maps, and
    further ones at half the size each. `points` are those of a query on each level, and
    `encoder_points` those of a token.
    """

    num_queries: int = argument(300, most=MOST_QUERIES)
    backbone: ResNetName = "resnet50"
    levels: int = argument(4, most=MOST_LEVELS)
    encoder_layers: int = argument(6, may_be_0=True, most=MOST_LAYERS)
    encoder_heads: int = argument(8, most=1024)
    encoder_points: int = argument(4, most=MOST_POINTS)
    encoder_ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    decoder_layers: int = argument(6, most=MOST_LAYERS)
    points: int = argument(4, most=MOST_POINTS)
    ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    dropout: float = argument(0.1, may_be_0=True, below=1.0, shapes_weights=False)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.levels == 2:
            return "levels = 2: the encoder takes the last map of the backbone, or the last three"
        if self.dim % self.encoder_heads or self.dim % NORM_GROUPS:
            return (
                f"dim = {self.dim} must be a multiple of encoder_heads = {self.encoder_heads}, and "
                f"of the {NORM_GROUPS} groups of the norms"
            )
        return super().validate()


@dataclass(frozen=True)
class DilatedShape(DeformableShape):
    """The same for a dilated backbone, which has blocks of three convolutions."""

    backbone: Literal["resnet50", "resnet101"] = "resnet50"
    levels: int = argument(1, most=MOST_LEVELS)


FOUR_LEVELS = DeformableShape()
ONE_LEVEL = replace(FOUR_LEVELS, levels=1)
