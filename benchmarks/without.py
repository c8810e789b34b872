"""setmatch_n without one of its parts: what an ablation needs and the library does not."""

from collections.abc import Sequence
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from setmatch.losses.classification import Focal
from setmatch.models.layers.box_relations import QueryAttentionMask
from setmatch.models.layers.deformable_decoder import DeformableDecoderLayer, RefiningDecoder
from setmatch.models.layers.denoising import Denoising, DenoisingQueries
from setmatch.models.layers.heads import BoxRefinementHead, ClassHead
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.layers.queries import EncoderProposals, QuerySelection
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment


class NoDenoising(nn.Module):
    """Spoils no target: no query at all."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(
        self, targets: Sequence[Target], valid_ratio: Float[Tensor, "B 2"]
    ) -> DenoisingQueries:
        """Return nothing to mend."""
        empty = valid_ratio.new_zeros(len(targets), 0)
        nowhere = torch.zeros(0, dtype=torch.int64, device=valid_ratio.device)
        return DenoisingQueries(
            empty[..., None].expand(-1, -1, self.dim),
            empty[..., None].expand(-1, -1, 4),
            empty.bool(),
            torch.zeros(0, 0, dtype=torch.bool, device=valid_ratio.device),
            1,
            Assignment(nowhere, nowhere, nowhere),
        )


class UnmovedDecoder(RefiningDecoder):
    """Every layer looks at, and starts from, the boxes that the first was given."""

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return every layer's logits and boxes, and the last content."""
        logits, boxes = [], []
        position = self.position(2 * cxcywh - 1)
        heads = zip(self.layers, self.class_heads, self.box_steps, strict=True)
        for layer, class_head, box_step in heads:
            content = layer(content, position, cxcywh, memory, query_mask)
            logits.append(class_head(content).float())
            boxes.append(box_step(content, cxcywh))
        return torch.stack(logits), torch.stack(boxes), content


class LearnedProposals(nn.Module):
    """Queries that are the same for every image: learned content and learned boxes."""

    def __init__(self, num_queries: int, dim: int, logits: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.content = nn.Embedding(num_queries, dim)
        self.class_head = ClassHead(dim, logits)
        self.box_step = BoxRefinementHead(dim)
        self.box_step.last.reset_parameters()  # or all queries would begin with one box

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the same for every image; the stream "encoder" trains their boxes."""
        content = self.content.weight.expand(len(memory.tokens), -1, -1)
        middle = content.new_full((1, self.num_queries, 4), 0.5)
        return EncoderProposals(
            content, self.class_head(content).float(), self.box_step(content, middle)
        )


class CrowdedQueries(QuerySelection):
    """The tokens with the largest class logit, neighbors of each other or not."""

    def priority(
        self, logits: Float[Tensor, "B N C"], shapes: tuple[tuple[int, int], ...]
    ) -> Float[Tensor, "B N"]:
        """Return the largest class logit alone."""
        return logits.amax(-1)


class Unrelated(nn.Module):
    """Tells queries nothing of each other's boxes, only whom they may listen to."""

    def forward(
        self, cxcywh: Float[Tensor, "B Q 4"], query_mask: QueryAttentionMask
    ) -> Bool[Tensor, "1 1 Q Q"] | None:
        """Return what is allowed."""
        return None if query_mask.attn_mask is None else query_mask.attn_mask[None, None]


class Half(nn.Module):
    """Stands where two maps are fused, and lets one of them through."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, both: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h w"]:
        """Return the half of the channels that belongs to one map."""
        return both.chunk(2, dim=1)[self.place]


Composition = TypeVar("Composition", bound=SetMatchDetector)


def recomposed(detector: SetMatchDetector, composition: type[Composition]) -> Composition:
    """Return the parts of `detector` in another composition."""
    return composition(
        detector.backbone,
        detector.encoder,
        detector.queries,
        detector.denoising,
        detector.decoder,
        detector.class_loss,
    )


def logits_of(detector: SetMatchDetector) -> int:
    """Return how many logits every query has."""
    return detector.queries.class_head.out_features


def layers_of(detector: SetMatchDetector) -> list[DeformableDecoderLayer]:
    """Return the decoder's layers, for another decoder."""
    return cast(list[DeformableDecoderLayer], list(detector.decoder.layers))


def focal(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Score every class by focal loss."""
    detector.class_loss = Focal()
    return detector


def no_denoising(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Spoil no target."""
    detector.denoising = cast(Denoising, NoDenoising(shape.dim))
    return detector


def unmoved(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let no layer move the boxes of the one before."""
    detector.decoder = UnmovedDecoder(layers_of(detector), shape.dim, logits_of(detector))
    return detector


def learned_queries(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Ask every image the same."""
    learned = LearnedProposals(shape.num_queries, shape.dim, logits_of(detector))
    detector.queries = cast(QuerySelection, learned)
    return detector


def crowded(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let queries begin beside each other."""
    detector.queries = CrowdedQueries(shape.num_queries, shape.dim, logits_of(detector))
    return detector


def unrelated(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Tell queries nothing of each other's boxes."""
    for layer in detector.decoder.layers:
        layer.relations = Unrelated()
    return detector


def unfused(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Leave every level to itself."""
    encoder = detector.encoder
    steps = range(len(encoder.down))
    encoder.down = nn.ModuleList(Half(0) for _ in steps)
    encoder.shrink = nn.ModuleList(nn.MaxPool2d(3, stride=2, padding=1) for _ in steps)
    encoder.up = nn.ModuleList(Half(1) for _ in steps)
    return detector
