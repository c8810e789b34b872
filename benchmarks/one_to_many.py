"""One-to-many matching in training (H-DETR, arXiv 2207.13080, section 3.2).

Several queries are matched to each target: either in the encoder's query selection, or among extra
queries that are absent in evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.losses.criterion import Criterion, Losses
from setmatch.losses.matcher import match
from setmatch.losses.normalizer import LossNormalizer
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.deformable_decoder import RefiningDecoder
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.queries.queries import EncoderProposals, QuerySelection
from setmatch.models.setmatch.config import MultiScaleShape
from setmatch.models.setmatch.model import SetMatchDetector
from setmatch.structures.batch import Target
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions
from without import layers_of, logits_of, recomposed

REPEATS = 4  # of every target
EXTRA = 2  # times as many extra queries as ordinary ones


def repeated(
    group: PredictionGroup, targets: Sequence[Target], criterion: Criterion, repeats: int
) -> list[PredictionGroup]:
    """Return each layer of `group`, matched to `repeats` copies of every target."""
    logits, cxcywh = group.predictions.logits.float(), group.predictions.cxcywh.float()
    copies = [Target(t.classes.repeat(repeats), t.cxcywh.repeat(repeats, 1)) for t in targets]
    counts = [len(target) for target in targets]
    numbers = torch.split(torch.arange(sum(counts), device=logits.device), counts)
    original = torch.cat([number.repeat(repeats) for number in numbers])
    matched = match(logits, cxcywh, copies, criterion.class_loss, criterion.costs)
    return [
        PredictionGroup(
            group.name,
            Predictions(logits[layer : layer + 1], cxcywh[layer : layer + 1]),
            Assignment(pairs.image, pairs.query, original[pairs.target]),
            repeats,
        )
        for layer, pairs in enumerate(matched)
    ]


def _part(group: PredictionGroup, name: str, queries: slice) -> PredictionGroup:
    predictions = group.predictions
    return PredictionGroup(
        name, Predictions(predictions.logits[:, :, queries], predictions.cxcywh[:, :, queries])
    )


@dataclass(frozen=True)
class ManyInEncoder:
    """The set loss with one-to-many matching of the selected encoder tokens."""

    criterion: Criterion

    def __call__(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses."""
        main, encoder, denoising = groups
        many = repeated(encoder, targets, self.criterion, REPEATS)
        return self.criterion([main, *many, denoising], targets, normalizer)


@dataclass(frozen=True)
class ManyBeside:
    """The set loss of the first `queries`, and one-to-many matching of the extra ones."""

    criterion: Criterion
    queries: int

    def __call__(
        self,
        groups: Sequence[PredictionGroup],
        targets: Sequence[Target],
        normalizer: LossNormalizer,
    ) -> Losses:
        """Return the losses."""
        main, encoder, denoising = groups
        ordinary, extra = slice(self.queries), slice(self.queries, None)
        many = repeated(_part(main, "many", extra), targets, self.criterion, REPEATS)
        one = [_part(main, "main", ordinary), _part(encoder, "encoder", ordinary)]
        return self.criterion([*one, denoising, *many], targets, normalizer)


class MoreQueries(QuerySelection):
    """Query selection with extra queries in training: the next best tokens."""

    def forward(self, memory: Memory) -> EncoderProposals:
        """Return the selected tokens, by descending priority."""
        every = super().forward(memory)
        if self.training:
            return every
        ordinary = slice(self.num_queries // (1 + EXTRA))
        return EncoderProposals(
            every.content[:, ordinary],
            every.logits[:, ordinary],
            every.cxcywh[:, ordinary],
            None if every.real is None else every.real[:, ordinary],
        )


class ApartDecoder(RefiningDecoder):
    """A decoder in which ordinary and extra queries do not attend to each other."""

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
            chosen = min((1 + EXTRA) * self.queries, memory.tokens.shape[1])
            place = torch.arange(content.shape[1], device=content.device)
            extra = place >= content.shape[1] - chosen + self.queries
            apart = query_mask.attn_mask & (extra[:, None] == extra[None])
            query_mask = replace(query_mask, attn_mask=apart)
        return super().forward(content, cxcywh, memory, query_mask)


class EncoderMany(SetMatchDetector):
    """The setmatch detector with one-to-many matching in the encoder."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss with repeated targets for the encoder."""
        return ManyInEncoder(set_loss(self.class_loss))


class BesideMany(SetMatchDetector):
    """The setmatch detector with extra queries in training."""

    def objective(self, set_loss: Any) -> Any:
        """Return the set loss of ordinary and extra queries."""
        return ManyBeside(set_loss(self.class_loss), self.num_queries)


def many_in_encoder(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Return the detector with one-to-many matching in the encoder."""
    return recomposed(detector, EncoderMany)


def many_beside(detector: SetMatchDetector, shape: MultiScaleShape) -> SetMatchDetector:
    """Let further queries learn one to many."""
    changed = recomposed(detector, BesideMany)
    logits, queries = logits_of(detector), shape.num_queries
    changed.queries = MoreQueries((1 + EXTRA) * queries, shape.dim, logits)
    changed.decoder = ApartDecoder(layers_of(detector), shape.dim, logits, queries)
    return changed
