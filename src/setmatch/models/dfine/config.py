"""Arguments of the D-FINE family: sizes of the backbone, the encoder and the decoder."""

from dataclasses import dataclass, replace
from typing import Literal

from setmatch.models.config import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_QUERIES,
    Width,
    argument,
)

MOST_POINTS = 64


@dataclass(frozen=True)
class DFineShape(Width):
    """Every size of a D-FINE; the defaults are those of D-FINE-S.

    `class_loss` is D-FINE's own, or that of DEIM, which trains the same model, but from ImageNet
    weights with another `activation` in the decoder.
    Arguments named `stage_` have one value for each stage of the backbone, of which the last ones
    give the levels of the encoder: as many as `points` has values.
    """

    num_queries: int = argument(300, most=MOST_QUERIES)
    stem: tuple[int, ...] = argument((16, 16), most=MOST_CHANNELS)
    stage_inner: tuple[int, ...] = argument((16, 32, 64, 128), most=MOST_CHANNELS)
    stage_out: tuple[int, ...] = argument((64, 256, 512, 1024), most=MOST_CHANNELS)
    stage_blocks: tuple[int, ...] = argument((1, 1, 2, 1), most=MOST_LAYERS)
    stage_layers: tuple[int, ...] = argument((3, 3, 3, 3), most=MOST_LAYERS)
    stage_kernels: tuple[int, ...] = argument((3, 3, 5, 5), most=15)
    stage_light: tuple[int, ...] = argument((0, 0, 1, 1), may_be_0=True, most=1)
    affine: bool = True
    frozen_norms: bool = argument(False, shapes_weights=False)
    encoder_dim: int = argument(256, most=MOST_CHANNELS)
    encoder_heads: int = argument(8, most=1024)
    encoder_layers: int = argument(1, may_be_0=True, most=MOST_LAYERS)
    encoder_ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    fusion_dim: int = argument(64, most=MOST_CHANNELS)
    fusion_blocks: int = argument(1, may_be_0=True, most=MOST_LAYERS)
    decoder_layers: int = argument(3, most=MOST_LAYERS)
    ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    points: tuple[int, ...] = argument((3, 6, 3), most=MOST_POINTS)
    offset_scale: float = argument(0.5, most=16)
    bins: int = argument(33, most=1025)
    reach: float = argument(0.5, most=16, shapes_weights=False)
    per_side: float = argument(4.0, most=64, shapes_weights=False)
    quality_best: int = argument(4, most=1025)
    quality_dim: int = argument(64, most=MOST_CHANNELS)
    quality_layers: int = argument(2, most=MOST_LAYERS)
    denoising_queries: int = argument(100, most=MOST_QUERIES, shapes_weights=False)
    label_noise: float = argument(0.5, may_be_0=True, most=1, shapes_weights=False)
    box_noise: float = argument(1.0, may_be_0=True, most=16, shapes_weights=False)
    class_loss: Literal["varifocal", "matchability"] = argument("varifocal", shapes_weights=False)
    activation: Literal["relu", "silu", "gelu"] = "relu"

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        stages = len(self.stage_out)
        per_stage = ("stage_inner", "stage_blocks", "stage_layers", "stage_kernels", "stage_light")
        for name in per_stage:
            if len(getattr(self, name)) != stages:
                return f"{name} and stage_out must have one value for each stage"
        if not 1 <= len(self.points) <= stages:
            return f"points must have at most {stages} values: one for each level"
        if len(self.stem) != 2:
            return "stem must have two values: its inner width and its output's"
        if any(kernel % 2 == 0 for kernel in self.stage_kernels):
            return "stage_kernels must be odd"
        if self.encoder_dim % self.encoder_heads or self.encoder_dim % 4:
            return (
                f"encoder_dim = {self.encoder_dim} must be a multiple of encoder_heads = "
                f"{self.encoder_heads}, and of 4 for the position encoding"
            )
        if self.bins % 2 == 0 or self.bins < 5:
            return f"bins = {self.bins} must be odd, and at least 5"
        if self.quality_best > self.bins:
            return f"quality_best = {self.quality_best} must be at most bins = {self.bins}"
        return super().validate()


SMALL = DFineShape()
NANO = replace(
    SMALL,
    dim=128,
    encoder_dim=128,
    encoder_ffn_dim=512,
    fusion_dim=21,
    fusion_blocks=2,
    ffn_dim=512,
    points=(6, 6),
)
MEDIUM = replace(
    SMALL,
    stem=(24, 32),
    stage_inner=(32, 64, 128, 256),
    stage_out=(96, 384, 768, 1536),
    stage_blocks=(1, 1, 3, 1),
    stage_layers=(4, 4, 4, 4),
    fusion_dim=128,
    fusion_blocks=2,
    decoder_layers=4,
)
LARGE = replace(
    SMALL,
    stem=(32, 48),
    stage_inner=(48, 96, 192, 384),
    stage_out=(128, 512, 1024, 2048),
    stage_blocks=(1, 1, 3, 1),
    stage_layers=(6, 6, 6, 6),
    affine=False,
    frozen_norms=True,
    fusion_dim=128,
    fusion_blocks=3,
    decoder_layers=6,
)
EXTRA_LARGE = replace(
    LARGE,
    stem=(32, 64),
    stage_inner=(64, 128, 256, 512),
    stage_blocks=(1, 2, 5, 2),
    encoder_dim=384,
    encoder_ffn_dim=2048,
    fusion_dim=192,
    per_side=8.0,
)
