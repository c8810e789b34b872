"""A decoder whose layers all look around the same boxes, and share their heads."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.attention.position_encoding import SineBoxPosition
from setmatch.models.layers.decoders.deformable_decoder import DeformableDecoderLayer
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import BoxScalingHead, ClassHead, Perceptron
from setmatch.ops.precision import at_least_single


class SteadyDecoder(nn.Module):
    """Decoder layers that do not move the boxes they sample around; heads read every layer.

    A query's position encoding is a function of its box (arXiv 2201.12329). Boxes are what the
    head makes of the boxes at the start, of every layer alike (arXiv 2406.03459).
    """

    def __init__(self, layers: list[DeformableDecoderLayer], dim: int, logits: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)
        self.waves = SineBoxPosition(dim // 2)
        self.position = Perceptron(2 * dim, dim, dim)
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxScalingHead(dim)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "L B Q D"]]:
        """Return the logits, the boxes and the normalized content of every layer."""
        position = self.position(self.waves(cxcywh).to(content.dtype))
        outputs = []
        for layer in self.layers:
            content = layer(content, position, cxcywh, memory, query_mask)
            outputs.append(self.norm(content))
        decoded = torch.stack(outputs)
        logits = at_least_single(self.class_head(decoded))
        return logits, self.box_step(decoded, cxcywh), decoded
