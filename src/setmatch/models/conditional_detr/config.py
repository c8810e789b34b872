"""Arguments of Conditional DETR and DAB-DETR: DETR's with more queries, and a choice of ResNet."""

from dataclasses import dataclass
from typing import Literal

from setmatch.models.backbones.resnet import ResNetName
from setmatch.models.config import MOST_CHANNELS, MOST_QUERIES, argument
from setmatch.models.detr.config import TransformerShape


@dataclass(frozen=True)
class PlacedShape(TransformerShape):
    """Depth and width of the transformer; `heads` and `ffn_dim` are the decoder's."""

    num_queries: int = argument(300, most=MOST_QUERIES)
    backbone: ResNetName = "resnet50"
    encoder_heads: int = argument(8, most=1024)
    encoder_ffn_dim: int = argument(2048, most=16 * MOST_CHANNELS)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.dim % self.encoder_heads:
            return f"dim = {self.dim} must be a multiple of encoder_heads = {self.encoder_heads}"
        return super().validate()


DilatedResNetName = Literal["resnet50", "resnet101"]  # which have blocks of three convolutions


@dataclass(frozen=True)
class DilatedPlacedShape(PlacedShape):
    """The same for a dilated backbone."""

    backbone: DilatedResNetName = "resnet50"


R50, R50_DC5 = PlacedShape(), DilatedPlacedShape()
