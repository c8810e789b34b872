"""D-FINE (arXiv 2410.13842): the whole model on one screen, and that of DEIMv2 (2509.20787)."""

from collections.abc import Sequence, Set
from dataclasses import replace

import torch
from torch import Tensor, nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.attention_trace import SamplingDetector
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.distribution_decoder import DistributionDecoder, RefinedQueries
from setmatch.models.layers.encoders.hybrid_encoder import PyramidEncoder
from setmatch.models.layers.encoders.lite_encoder import LiteEncoder
from setmatch.models.layers.queries.denoising import Denoising, denoising_attn_mask
from setmatch.models.layers.queries.queries import AnchorSelection, only_real
from setmatch.models.parameter_groups import norms_and_outer_biases
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.outputs import Assignment, PredictionGroup, Predictions


class DFineDetector(SamplingDetector):
    """Backbone, hybrid encoder, query selection, a decoder that refines distributions of edges.

    In training there are four more groups of predictions: "encoder", the selected tokens' own,
    "start", the boxes whose edges the decoder moves, and both kinds for the denoising queries.
    """

    def __init__(
        self,
        backbone: nn.Module,
        encoder: PyramidEncoder | LiteEncoder,
        queries: AnchorSelection,
        denoising: Denoising,
        decoder: DistributionDecoder,
        class_loss: ClassificationLoss,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.denoising = denoising
        self.decoder = decoder
        self.class_loss = class_loss
        self.num_queries = queries.num_queries

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return "main"; in training also "encoder", "start", and both kinds of denoising.

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        memory = self.encoder(self.feature_levels(batch), batch)
        proposals = self.queries(memory)
        content, cxcywh = proposals.content, proposals.cxcywh.detach()
        query_mask = QueryAttentionMask.in_order(content, proposals.real)
        if not self.training:
            refined = self.decoder(content, cxcywh, memory, query_mask)
            return _groups(refined, proposals.real, ("main", "start"))[:1]
        require_targets(targets, len(batch.pixels), self.denoising.num_classes, batch.pixels.device)
        noised = self.denoising(targets)
        both = self.decoder(
            torch.cat([noised.content.to(content.dtype), content], dim=1),
            torch.cat([noised.cxcywh.to(cxcywh.dtype), cxcywh], dim=1),
            memory,
            denoising_attn_mask(noised, query_mask),
        )
        extra = noised.real.shape[1]  # denoising queries come first
        main, start = _groups(_rows(both, slice(extra, None)), proposals.real, ("main", "start"))
        names = ("denoising", "denoising_start")
        # As published, queries that only pad an image are trained as "no object".
        denoised = _groups(_rows(both, slice(extra)), None, names, noised.assignment, noised.groups)
        proposed = Predictions(
            only_real(proposals.logits[None], proposals.real), proposals.cxcywh[None]
        )
        return (main, PredictionGroup("encoder", proposed), start, *denoised)

    def undecayed(self) -> Set[int]:
        """Return the parameters of norms, and the biases outside of the backbone."""
        return norms_and_outer_biases(self)


def _groups(
    refined: RefinedQueries,
    real: Tensor | None,
    names: tuple[str, str],
    assignment: Assignment | None = None,
    repeats: int = 1,
) -> tuple[PredictionGroup, PredictionGroup]:
    """Return the predictions of all layers with their edges, and those before any edge moved."""
    layers = Predictions(only_real(refined.logits, real), refined.cxcywh)
    start = Predictions(only_real(refined.start_logits[None], real), refined.start_cxcywh[None])
    return (
        PredictionGroup(names[0], layers, assignment, repeats, edges=refined.edges),
        PredictionGroup(names[1], start, assignment, repeats),
    )


def _rows(refined: RefinedQueries, queries: slice) -> RefinedQueries:
    """Return the chosen queries alone."""
    edges = refined.edges
    return RefinedQueries(
        refined.logits[:, :, queries],
        refined.cxcywh[:, :, queries],
        refined.start_logits[:, queries],
        refined.start_cxcywh[:, queries],
        replace(
            edges,
            logits=edges.logits[:, :, queries],
            start_cxcywh=edges.start_cxcywh[:, queries],
        ),
    )
