"""Arguments of the RT-DETR family: sizes of the backbone, the encoder and the decoder."""

from dataclasses import dataclass, fields, replace
from typing import Any

from setmatch.models.config import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_QUERIES,
    Width,
    argument,
)

MOST_POINTS = 64


@dataclass(frozen=True)
class RTDetrShape(Width):
    """Every size of an RT-DETR; the defaults are those of RT-DETR-R18.

    Arguments named `stage_` have one value for each stage of the backbone, of which the last ones
    give the levels of the encoder. `points` has one value for each level of the decoder: those of
    the encoder, and `extra_levels` coarser ones. In evaluation at most `eval_layers` decoder layers
    run. `eval_positions` false leaves the encoder's positions out in evaluation.
    """

    num_queries: int = argument(300, most=MOST_QUERIES)
    stem: int = argument(64, most=MOST_CHANNELS)
    stage_out: tuple[int, ...] = argument((64, 128, 256, 512), most=MOST_CHANNELS)
    stage_blocks: tuple[int, ...] = argument((2, 2, 2, 2), most=MOST_LAYERS)
    bottleneck: bool = False
    frozen_norms: bool = argument(False, shapes_weights=False)
    encoder_dim: int = argument(256, most=MOST_CHANNELS)
    encoder_heads: int = argument(8, most=1024)
    encoder_layers: int = argument(1, may_be_0=True, most=MOST_LAYERS)
    encoder_ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    eval_positions: bool = argument(True, shapes_weights=False)
    fusion_dim: int = argument(128, most=MOST_CHANNELS)
    fusion_blocks: int = argument(3, may_be_0=True, most=MOST_LAYERS)
    extra_levels: int = argument(0, may_be_0=True, most=4)
    decoder_layers: int = argument(3, most=MOST_LAYERS)
    eval_layers: int = argument(MOST_LAYERS, most=MOST_LAYERS, shapes_weights=False)
    ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)
    points: tuple[int, ...] = argument((4, 4, 4), most=MOST_POINTS)
    denoising_queries: int = argument(100, most=MOST_QUERIES, shapes_weights=False)
    label_noise: float = argument(0.5, may_be_0=True, most=1, shapes_weights=False)
    box_noise: float = argument(1.0, may_be_0=True, most=16, shapes_weights=False)

    @property
    def levels(self) -> int:
        """The number of levels of the encoder."""
        return len(self.points) - self.extra_levels

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if len(self.stage_blocks) != len(self.stage_out):
            return "stage_blocks and stage_out must have one value for each stage"
        if not 1 <= self.levels <= len(self.stage_out):
            return (
                "points must have one value for each level: at most "
                f"{len(self.stage_out)} of the backbone, and extra_levels = {self.extra_levels}"
            )
        if self.stem % 2:
            return f"stem = {self.stem} must be even"
        if self.bottleneck and any(width % 4 for width in self.stage_out):
            return "stage_out must be multiples of 4 with bottleneck"
        if self.encoder_dim % self.encoder_heads or self.encoder_dim % 4:
            return (
                f"encoder_dim = {self.encoder_dim} must be a multiple of encoder_heads = "
                f"{self.encoder_heads}, and of 4 for the position encoding"
            )
        return super().validate()


@dataclass(frozen=True)
class RTDetrV2Shape(RTDetrShape):
    """The same with RT-DETRv2's sampling; the defaults are those of RT-DETRv2-R18.

    The last point of a level starts `offset_scale` box sides from the center. `nearest` is True for
    points that take the nearest cell (discrete sampling).
    """

    offset_scale: float = argument(0.5, most=16)
    nearest: bool = argument(False, shapes_weights=False)


R18 = RTDetrShape()
R34 = replace(R18, stage_blocks=(3, 4, 6, 3), decoder_layers=4)
R50 = replace(
    R18,
    stage_out=(256, 512, 1024, 2048),
    stage_blocks=(3, 4, 6, 3),
    bottleneck=True,
    frozen_norms=True,
    fusion_dim=256,
    decoder_layers=6,
)
R101 = replace(
    R50,
    stage_blocks=(3, 4, 23, 3),
    encoder_dim=384,
    encoder_ffn_dim=2048,
    fusion_dim=384,
)


def as_v2(shape: RTDetrShape, **changes: Any) -> RTDetrV2Shape:
    """Return the same sizes for RT-DETRv2."""
    sizes = {field.name: getattr(shape, field.name) for field in fields(shape)}
    return RTDetrV2Shape(**{**sizes, **changes})


V2_R18 = as_v2(R18)
V2_R34 = as_v2(R34)
V2_R50_M = as_v2(R50, fusion_dim=128, eval_layers=3)
V2_R50 = as_v2(R50)
V2_R101 = as_v2(R101)
