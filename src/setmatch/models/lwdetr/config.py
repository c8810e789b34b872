"""Arguments of the LW-DETR family: sizes of the backbone, the projector and the decoder."""

from dataclasses import dataclass, replace

from setmatch.models.config import MOST_LAYERS, argument
from setmatch.models.layers.encoders.pyramid_projector import RESIZE
from setmatch.models.rfdetr.config import WindowedShape


@dataclass(frozen=True)
class LWDETRShape(WindowedShape):
    """Every size of an LW-DETR.

    `windowed` are the numbers of the backbone's blocks, from 1, that attend within windows. The
    decoder samples a level for each of `scales`: its size relative to the backbone's maps. In
    training the last block leaves its branches out with probability `drop_path`, the first never.
    """

    windowed: tuple[int, ...] = argument((1, 2, 4, 7, 8, 10), most=MOST_LAYERS, may_be_empty=True)
    scales: tuple[float, ...] = argument((1.0,), most=2)
    drop_path: float = argument(0.0, may_be_0=True, below=1.0, shapes_weights=False)

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if unknown := [scale for scale in self.scales if scale not in RESIZE]:
            return (
                f"scales: {unknown[0]:g} is none of {', '.join(f'{scale:g}' for scale in RESIZE)}"
            )
        return super().validate()


SMALL = LWDETRShape(
    backbone_dim=192,
    backbone_heads=12,
    backbone_ffn_dim=768,
    windows=4,
    grid=14,
    outputs=(3, 5, 6, 10),
)
TINY = replace(SMALL, outputs=(2, 4, 6), windowed=(1, 3, 5), num_queries=100)
MEDIUM = replace(SMALL, backbone_dim=384, backbone_ffn_dim=1536)
LARGE = replace(
    MEDIUM, scales=(2.0, 0.5), dim=384, projector_dim=192, heads=12, cross_heads=24, points=4
)
XLARGE = replace(LARGE, backbone_dim=768, backbone_ffn_dim=3072)
