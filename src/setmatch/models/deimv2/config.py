"""Arguments of the DEIMv2 family: those of D-FINE, and which of two forms its parts have."""

from dataclasses import dataclass, replace
from typing import Literal

from setmatch.models.config import argument
from setmatch.models.dfine.config import DFineShape

Activation = Literal["relu", "silu", "gelu"]


@dataclass(frozen=True)
class DEIMv2Shape(DFineShape):
    """Every size of a DEIMv2; the defaults are those of DEIMv2-N.

    A "lite" encoder makes two levels of the last map of the backbone. Decoder layers join samples
    by a `gate`, or by their sum. They have a head of edges each, unless they share it. The last
    four arguments tell the authors' model from that of transformers: whether tokens `prepare` for
    their heads, whether queries keep the position of their first box, and the activations of heads
    and of the position's perceptron.
    """

    encoder: Literal["hybrid", "lite"] = "hybrid"
    gate: bool = True
    shared_edge_head: bool = False
    class_loss: Literal["varifocal", "matchability"] = argument(
        "matchability", shapes_weights=False
    )
    prepares_tokens: bool = False
    keeps_position: bool = True
    activation: Activation = "silu"
    position_activation: Activation = "silu"

    def validate(self) -> str:
        """Return which arguments contradict each other, or an empty string."""
        if self.encoder == "lite" and len(self.points) != 2:
            return "points must have two values: a lite encoder makes two levels"
        if self.encoder == "lite" and self.encoder_layers:
            return "encoder_layers must be 0: a lite encoder has no self-attention"
        if self.ffn_dim < 2:
            return f"ffn_dim = {self.ffn_dim} must be at least 2: half of it is gated"
        return super().validate()


NANO = DEIMv2Shape(
    dim=128,
    encoder_dim=128,
    encoder_ffn_dim=512,
    fusion_dim=21,
    fusion_blocks=2,
    ffn_dim=512,
    points=(6, 6),
)
PICO = replace(
    NANO,
    encoder="lite",
    gate=False,
    shared_edge_head=True,
    stage_inner=(16, 32, 64),
    stage_out=(64, 256, 512),
    stage_blocks=(1, 1, 2),
    stage_layers=(3, 3, 3),
    stage_kernels=(3, 3, 5),
    stage_light=(0, 0, 1),
    dim=112,
    encoder_dim=112,
    encoder_layers=0,
    fusion_dim=19,
    ffn_dim=320,
    points=(4, 2),
    num_queries=200,
)
FEMTO = replace(
    PICO,
    stage_blocks=(1, 1, 1),
    dim=96,
    encoder_dim=96,
    fusion_dim=16,
    ffn_dim=256,
    num_queries=150,
)
ATTO = replace(
    FEMTO,
    stage_out=(64, 256, 256),
    stage_kernels=(3, 3, 3),
    dim=64,
    encoder_dim=64,
    fusion_dim=10,
    ffn_dim=160,
    num_queries=100,
)
