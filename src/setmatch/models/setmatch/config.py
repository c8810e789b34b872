"""Arguments of the setmatch family."""

from dataclasses import dataclass

from setmatch.models.config import MOST_CHANNELS, MOST_LAYERS, MOST_QUERIES, Width, argument


@dataclass(frozen=True)
class MultiScaleShape(Width):
    """Depth, width and queries of a setmatch model."""

    encoder_layers: int = argument(1, may_be_0=True, most=MOST_LAYERS)
    decoder_layers: int = argument(3, most=MOST_LAYERS)
    ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    points: int = argument(4, most=64)  # sampling points of a query, per level and head
    denoising_queries: int = argument(100, most=MOST_QUERIES, shapes_weights=False)


@dataclass(frozen=True)
class TimmShape(MultiScaleShape):
    """The same on a backbone from timm, by its name there."""

    backbone: str = "resnet18"


NANO = MultiScaleShape(
    dim=64, heads=4, decoder_layers=2, ffn_dim=256, num_queries=60, denoising_queries=48
)
