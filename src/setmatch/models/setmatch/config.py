"""Settings of the setmatch family."""

from dataclasses import dataclass

from setmatch.models.config import Width


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
