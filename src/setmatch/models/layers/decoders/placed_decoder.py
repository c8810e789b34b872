"""Decoders of queries whose position encoding is given: with steady places or refined boxes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.deformable_decoder import (
    Decoded,
    DeformableDecoderLayer,
    RefiningLayers,
)
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import BoxRefinementHead, ClassHead
from setmatch.ops.precision import at_least_single


class SteadyPlaceDecoder(nn.Module):
    """Layers that all look around the same places, and share their heads (arXiv 2010.04159).

    `margin` is how near to 0 and 1 coordinates come.
    """

    def __init__(
        self, layers: list[DeformableDecoderLayer], dim: int, logits: int, margin: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxRefinementHead(dim, margin)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        position: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> Decoded:
        """Return every layer's logits and boxes, and the content after the last layer."""
        logits, boxes = [], []
        for layer in self.layers:
            content = layer(content, position, cxcywh, memory, query_mask)
            logits.append(at_least_single(self.class_head(content)))
            boxes.append(self.box_step(content, cxcywh))
        return torch.stack(logits), torch.stack(boxes), content


class PlacedRefiningDecoder(RefiningLayers):
    """Layers that refine boxes, with a position encoding that does not change (section 4.2)."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        position: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> Decoded:
        """Return every layer's logits and boxes, and the content after the last layer."""
        return self.refine(content, cxcywh, memory, query_mask, lambda _: position)
