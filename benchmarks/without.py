"""setmatch_n without one of its parts, for ablations."""

from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.losses.classification import Focal
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.cells import Cells, hide
from setmatch.models.layers.decoders.deformable_decoder import (
    DeformableDecoderLayer,
    RefiningDecoder,
)
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.heads.heads import BoxRefinementHead, ClassHead
from setmatch.models.layers.queries.denoising import Denoising, DenoisingQueries
from setmatch.models.layers.queries.queries import EncoderProposals, QuerySelection
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment


class NoDenoising(nn.Module):
    """Replaces denoising: makes no queries."""

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.num_classes, self.dim = num_classes, dim

    def forward(self, targets: Sequence[Target]) -> DenoisingQueries:
        """Return no denoising queries."""
        device = targets[0].classes.device
        empty = torch.zeros(len(targets), 0, device=device)
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return DenoisingQueries(
            empty[..., None].expand(-1, -1, self.dim),
            empty[..., None].expand(-1, -1, 4),
            empty.bool(),
            torch.zeros(0, 0, dtype=torch.bool, device=device),
            1,
            Assignment(none, none, none),
        )


class HalvedMap(nn.Module):
    """Replaces the convolution between two levels by pooling."""

    def forward(
        self, level: Float[Tensor, "B D h w"], coarser_cells: Cells | None
    ) -> Float[Tensor, "B D h2 w2"]:
        """Return the pooled map, with zeros outside of the images."""
        return hide(F.max_pool2d(level, 3, stride=2, padding=1), coarser_cells)


class DecoderWithoutRefinement(RefiningDecoder):
    """A decoder without iterative refinement: every layer starts from the initial boxes."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return every layer's logits and boxes, and the last content."""
        logits, boxes = [], []
        position = self.position(cxcywh)
        heads = zip(self.layers, self.class_heads, self.box_steps, strict=True)
        for layer, class_head, box_step in heads:
            content = layer(content, position, cxcywh, memory, query_mask)
            logits.append(class_head(content).float())
            boxes.append(box_step(content, cxcywh))
        return torch.stack(logits), torch.stack(boxes), content


class LearnedProposals(nn.Module):
    """Learned queries, the same for every image: content and boxes."""

    def __init__(self, num_queries: int, dim: int, logits: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.content = nn.Embedding(num_queries, dim)
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxRefinementHead(dim)
        self.box_step.last.reset_parameters()  # zero weights would give all queries the same box

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the queries. Their boxes are trained by the group "encoder"."""
        content = self.content.weight.expand(len(memory.tokens), -1, -1)
        middle = content.new_full((1, self.num_queries, 4), 0.5)
        return EncoderProposals(
            content, self.class_head(content).float(), self.box_step(content, middle)
        )


class QueriesWithoutPeaks(QuerySelection):
    """Query selection by the largest class logit, without suppression of neighbors."""

    def priority(
        self, logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
    ) -> Float[Tensor, "B N"]:
        """Return the largest class logit."""
        return logits.amax(-1)


class NoBoxRelations(nn.Module):
    """Self-attention without box relations; only the attention mask remains."""

    def forward(
        self, cxcywh: Float[Tensor, "B Q 4"], query_mask: QueryAttentionMask
    ) -> Bool[Tensor, "#B 1 Q Q"] | None:
        """Return the attention mask."""
        mask = query_mask.attn_mask
        return mask[None, None] if mask is not None and mask.ndim == 2 else mask


class FinerMap(nn.Module):
    """Replaces the fusion of a map with the coarser one by the map itself."""

    def forward(
        self, maps: tuple[Float[Tensor, "B D H W"], Float[Tensor, "B D h w"]], cells: Cells | None
    ) -> Float[Tensor, "B D H W"]:
        """Return the finer of both maps."""
        return maps[0]


class SecondMap(nn.Module):
    """Replaces the fusion of two concatenated maps by the second one."""

    def forward(
        self, both: Float[Tensor, "B C h w"], cells: Cells | None
    ) -> Float[Tensor, "B D h w"]:
        """Return the second half of the channels."""
        return both[:, both.shape[1] // 2 :]


Composition = TypeVar("Composition", bound=SetMatchDetector)


def recomposed(detector: SetMatchDetector, composition: type[Composition]) -> Composition:
    """Return a detector of another class with the parts of `detector`."""
    return composition(
        detector.backbone,
        detector.encoder,
        detector.queries,
        detector.denoising,
        detector.decoder,
        detector.class_loss,
    )


def logits_of(detector: SetMatchDetector) -> int:
    """Return the number of logits per query."""
    return detector.queries.class_head.out_features


def layers_of(detector: SetMatchDetector) -> list[DeformableDecoderLayer]:
    """Return the layers of the decoder."""
    return cast(list[DeformableDecoderLayer], list(detector.decoder.layers))


def focal(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Replace the varifocal loss by the focal loss."""
    detector.class_loss = Focal()
    return detector


def no_denoising(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Train without denoising."""
    detector.denoising = cast(Denoising, NoDenoising(detector.denoising.num_classes, shape.dim))
    return detector


def no_box_refinement(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Decode without iterative box refinement."""
    detector.decoder = DecoderWithoutRefinement(layers_of(detector), shape.dim, logits_of(detector))
    return detector


def learned_queries(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Replace selected queries by learned ones."""
    learned = LearnedProposals(shape.num_queries, shape.dim, logits_of(detector))
    detector.queries = cast(QuerySelection, learned)
    return detector


def no_local_peaks(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Select queries without suppression of neighbors."""
    detector.queries = QueriesWithoutPeaks(shape.num_queries, shape.dim, logits_of(detector))
    return detector


def no_box_relations(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Remove box relations from self-attention."""
    for layer in detector.decoder.layers:
        layer.relations = NoBoxRelations()
    return detector


def no_fusion(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Remove the fusion of feature levels."""
    encoder = detector.encoder
    steps = range(len(encoder.down))
    encoder.down = nn.ModuleList(FinerMap() for _ in steps)
    encoder.shrink = nn.ModuleList(HalvedMap() for _ in steps)
    encoder.up = nn.ModuleList(SecondMap() for _ in steps)
    return detector
