"""Deformable DETR (arXiv 2010.04159): the whole model on one screen."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.attention_trace import SamplingDetector
from setmatch.models.class_rows import ClassRows
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.attention.deformable_attention import PointAttention
from setmatch.models.layers.decoders.placed_decoder import PlacedRefiningDecoder, SteadyPlaceDecoder
from setmatch.models.layers.encoders.deformable_encoder import DeformableEncoder
from setmatch.models.layers.queries.placed_queries import LearnedPlaces, TokenPlaces, TokenProposals
from setmatch.models.layers.queries.queries import only_real
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.outputs import PredictionGroup, Predictions

PLACING_RATE = 0.1  # of what places points, as a fraction of the learning rate, as published


class DeformableDETR(SamplingDetector):
    """Backbone, deformable encoder, queries with a place, a deformable decoder.

    With queries that are tokens of the encoder there is one more group of predictions in training,
    "encoder": what all tokens predict, trained to find objects of any class.
    """

    class_rows = (ClassRows(re.compile(r"decoder\.class_head(s\.\d+)?\.\w+")),)

    def __init__(
        self,
        backbone: nn.Module,
        encoder: DeformableEncoder,
        queries: LearnedPlaces | TokenPlaces,
        decoder: SteadyPlaceDecoder | PlacedRefiningDecoder,
        class_loss: ClassificationLoss,
        num_classes: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.class_loss = class_loss
        self.num_queries = queries.num_queries
        self.fixed_queries = queries.fixed
        self.num_classes = num_classes

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return "main"; in training of two stages also "encoder".

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        if self.training:
            require_targets(targets, len(batch.pixels), self.num_classes, batch.pixels.device)
        memory = self.encoder(self.feature_levels(batch), batch)
        queries = self.queries(memory)
        query_mask = QueryAttentionMask.in_order(queries.content, queries.real)
        logits, boxes, _ = self.decoder(
            queries.content, queries.position, queries.cxcywh, memory, query_mask
        )
        main = PredictionGroup("main", Predictions(only_real(logits, queries.real), boxes))
        if not self.training or queries.tokens is None:
            return (main,)
        return main, _any_class(queries.tokens, targets)

    def rate_factors(self) -> dict[int, float]:
        """Return the factors of what places points: of queries, and of deformable attention."""
        parts = [each.offsets for each in self.modules() if isinstance(each, PointAttention)]
        if isinstance(self.queries, LearnedPlaces):
            parts.append(self.queries.place)
        return {id(each): PLACING_RATE for part in parts for each in part.parameters()}


def _any_class(tokens: TokenProposals, targets: Sequence[Target]) -> PredictionGroup:
    """Return what tokens predict, to be trained with targets whose classes are all the same."""
    objects = tuple(replace(each, classes=torch.zeros_like(each.classes)) for each in targets)
    logits = only_real(tokens.logits[None], tokens.real)
    return PredictionGroup("encoder", Predictions(logits, tokens.cxcywh[None]), targets=objects)
