"""Several queries for one target in training, so that more of them learn to find it.

Either the choice of queries learns so, or further queries beside the real ones do, which are left
out of answers (H-DETR, arXiv 2207.13080, section 3.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.losses.criterion import Criterion, Losses, LossNormalizer
from setmatch.losses.matcher import match
from setmatch.models.layers.box_relations import QueryAttentionMask
from setmatch.models.layers.deformable_decoder import RefiningDecoder
from setmatch.models.layers.hybrid_encoder import Memory
from setmatch.models.layers.queries import EncoderProposals, QuerySelection
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions
from without import layers_of, logits_of, recomposed

REPEATS = 4  # of every target
BESIDE = 2  # times as many queries beside the real ones


def repeated(
    stream: PredictionGroup, targets: Sequence[Target], criterion: Criterion, repeats: int
) -> list[PredictionGroup]:
    """Return the layers of `stream`, each assigned to `repeats` copies of every target."""
    logits, cxcywh = stream.predictions.logits.float(), stream.predictions.cxcywh.float()
    copies = [Target(t.classes.repeat(repeats), t.cxcywh.repeat(repeats, 1)) for t in targets]
    counts = [len(target) for target in targets]
    numbers = torch.split(torch.arange(sum(counts), device=logits.device), counts)
    original = torch.cat([number.repeat(repeats) for number in numbers])
    matched = match(logits, cxcywh, copies, criterion.class_loss, criterion.costs)
    return [
        PredictionGroup(
            stream.name,
            Predictions(logits[layer : layer + 1], cxcywh[layer : layer + 1]),
            Assignment(pairs.image, pairs.query, original[pairs.target]),
            repeats,
        )
        for layer, pairs in enumerate(matched)
    ]


def _part(stream: PredictionGroup, name: str, queries: slice) -> PredictionGroup:
    predictions = stream.predictions
    return PredictionGroup(
        name, Predictions(predictions.logits[:, :, queries], predictions.cxcywh[:, :, queries])
    )


@dataclass(frozen=True)
class ManyInEncoder:
    """The set loss, but every target is owed by several of the tokens that were chosen."""

    criterion: Criterion

    def __call__(
        self,
        streams: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses."""
        main, encoder, denoising = streams
        many = repeated(encoder, targets, self.criterion, REPEATS)
        return self.criterion([main, *many, denoising], targets, normalizer)


@dataclass(frozen=True)
class ManyBeside:
    """The set loss of the first `queries`, and one to many that of the queries beside them."""

    criterion: Criterion
    queries: int

    def __call__(
        self,
        streams: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses."""
        main, encoder, denoising = streams
        real, beside = slice(self.queries), slice(self.queries, None)
        many = repeated(_part(main, "many", beside), targets, self.criterion, REPEATS)
        one = [_part(main, "main", real), _part(encoder, "encoder", real)]
        return self.criterion([*one, denoising, *many], targets, normalizer)


class MoreQueries(QuerySelection):
    """The best tokens, and in training the next best beside them."""

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the best tokens, best first."""
        every = super().forward(memory)
        if self.training:
            return every
        real = slice(self.num_queries // (1 + BESIDE))
        return EncoderProposals(
            every.content[:, real], every.logits[:, real], every.cxcywh[:, real]
        )


class ApartDecoder(RefiningDecoder):
    """Real queries, and those beside them, which look at each other only."""

    def __init__(self, layers: list[Any], dim: int, logits: int, queries: int) -> None:
        super().__init__(layers, dim, logits)
        self.queries = queries

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        cxcywh: Float[Tensor, "B Q 4"],
        memory: Memory,
        query_mask: QueryAttentionMask,
    ) -> tuple[Float[Tensor, "L B Q C"], Float[Tensor, "L B Q 4"], Float[Tensor, "B Q D"]]:
        """Return every layer's logits and boxes, and the last content."""
        if query_mask.attn_mask is not None:
            chosen = min((1 + BESIDE) * self.queries, memory.tokens.shape[1])
            place = torch.arange(content.shape[1], device=content.device)
            beside = place >= content.shape[1] - chosen + self.queries
            apart = query_mask.attn_mask & (beside[:, None] == beside[None])
            query_mask = replace(query_mask, attn_mask=apart)
        return super().forward(content, cxcywh, memory, query_mask)


class EncoderMany(SetMatchDetector):
    """The family, whose choice of queries learns one to many."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss with repeated targets for the encoder."""
        return ManyInEncoder(set_loss(self.class_loss))


class BesideMany(SetMatchDetector):
    """The family, with queries beside the real ones in training."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss of the real queries with that of the others."""
        return ManyBeside(set_loss(self.class_loss), self.num_queries)


def many_in_encoder(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let the choice of queries learn one to many."""
    return recomposed(detector, EncoderMany)


def many_beside(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let further queries learn one to many."""
    changed = recomposed(detector, BesideMany)
    logits, queries = logits_of(detector), shape.num_queries
    changed.queries = MoreQueries((1 + BESIDE) * queries, shape.dim, logits)
    changed.decoder = ApartDecoder(layers_of(detector), shape.dim, logits, queries)
    return changed
