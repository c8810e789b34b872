"""Arguments of the RF-DETR family: sizes of the backbone, the projector and the decoder."""

from dataclasses import dataclass, replace

from setmatch.models.config import (
    MOST_CHANNELS,
    MOST_LAYERS,
    MOST_QUERIES,
    Width,
    argument,
)

MOST_POINTS, MOST_GROUPS, MOST_PATCHES = 64, 64, 256


@dataclass(frozen=True)
class WindowedShape(Width):
    """The sizes that RF-DETR and LW-DETR have in common; the defaults are those of RF-DETR-S.

    `heads` are those of the queries' self-attention. `outputs` are the numbers of backbone blocks
    after which a map is taken, `grid` the patches per side for which positions are learned.
    """

    num_queries: int = argument(300, most=MOST_QUERIES)
    backbone_dim: int = argument(384, most=MOST_CHANNELS)
    backbone_heads: int = argument(6, most=1024)
    backbone_ffn_dim: int = argument(1536, most=16 * MOST_CHANNELS)
    patch: int = argument(16, most=64)
    windows: int = argument(2, most=16)
    grid: int = argument(32, most=MOST_PATCHES)
    outputs: tuple[int, ...] = argument((3, 6, 9, 12), most=MOST_LAYERS)
    projector_dim: int = argument(128, most=MOST_CHANNELS)
    projector_blocks: int = argument(3, may_be_0=True, most=MOST_LAYERS)
    decoder_layers: int = argument(3, most=MOST_LAYERS)
    ffn_dim: int = argument(2048, most=16 * MOST_CHANNELS)
    cross_heads: int = argument(16, most=1024)
    points: int = argument(2, most=MOST_POINTS)
    query_groups: int = argument(13, most=MOST_GROUPS)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.backbone_dim % self.backbone_heads:
            return (
                f"backbone_dim = {self.backbone_dim} must be a multiple of backbone_heads = "
                f"{self.backbone_heads}"
            )
        if self.dim % self.cross_heads:
            return f"dim = {self.dim} must be a multiple of cross_heads = {self.cross_heads}"
        if list(self.outputs) != sorted(set(self.outputs)):
            return "outputs must increase: each is a number of blocks after which a map is taken"
        return super().validate()


@dataclass(frozen=True)
class RFDETRShape(WindowedShape):
    """Every size of an RF-DETR; `projector_eps` is that of the norms in the projector."""

    projector_eps: float = argument(1e-6, most=1, shapes_weights=False)


@dataclass(frozen=True)
class RFDETRMaskShape(RFDETRShape):
    """The same with a mask head; `mask_ffn_dim` is its feed-forward network's."""

    mask_ffn_dim: int = argument(1024, most=16 * MOST_CHANNELS)


SMALL = RFDETRShape()
NANO = replace(SMALL, grid=24, decoder_layers=2)
MEDIUM = replace(SMALL, grid=36, decoder_layers=4)
LARGE = replace(MEDIUM, grid=44)
BASE = replace(SMALL, patch=14, windows=4, grid=37, outputs=(2, 5, 8, 11))
MASK_SMALL = RFDETRMaskShape(patch=12, grid=32, decoder_layers=4, num_queries=100)
MASK_NANO = replace(MASK_SMALL, windows=1, grid=26)
MASK_MEDIUM = replace(MASK_SMALL, grid=36, decoder_layers=5, num_queries=200)
MASK_LARGE = replace(MASK_MEDIUM, grid=42)
