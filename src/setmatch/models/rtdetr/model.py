"""RT-DETR (arXiv 2304.08069) and RT-DETRv2 (2407.17140): the whole model on one screen."""

from collections.abc import Sequence, Set

import torch
from torch import nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.attention_trace import SamplingDetector
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.deformable_decoder import RefiningDecoder
from setmatch.models.layers.encoders.hybrid_encoder import PyramidEncoder
from setmatch.models.layers.queries.denoising import Denoising, denoising_attn_mask
from setmatch.models.layers.queries.queries import AnchorSelection, only_real
from setmatch.models.parameter_groups import norms_and_outer_biases
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.outputs import PredictionGroup, Predictions


class RTDetrDetector(SamplingDetector):
    """Backbone, hybrid encoder, query selection, a decoder that refines boxes.

    In training there are two more groups of predictions: "encoder", the selected tokens' own, and
    "denoising".
    """

    def __init__(
        self,
        backbone: nn.Module,
        encoder: PyramidEncoder,
        queries: AnchorSelection,
        denoising: Denoising,
        decoder: RefiningDecoder,
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
        """Return "main"; in training also "encoder" and, made from the targets, "denoising".

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        memory = self.encoder(self.feature_levels(batch), batch)
        proposals = self.queries(memory)
        content, cxcywh, real = proposals.content, proposals.cxcywh.detach(), proposals.real
        query_mask = QueryAttentionMask.in_order(content, real)
        if not self.training:
            logits, boxes, _ = self.decoder(content, cxcywh, memory, query_mask)
            return (PredictionGroup("main", Predictions(only_real(logits, real), boxes)),)
        require_targets(targets, len(batch.pixels), self.denoising.num_classes, batch.pixels.device)
        noised = self.denoising(targets)
        logits, boxes, _ = self.decoder(
            torch.cat([noised.content.to(content.dtype), content], dim=1),
            torch.cat([noised.cxcywh.to(cxcywh.dtype), cxcywh], dim=1),
            memory,
            denoising_attn_mask(noised, query_mask),
        )
        extra = noised.real.shape[1]  # denoising queries come first
        main = Predictions(only_real(logits[:, :, extra:], real), boxes[:, :, extra:])
        proposed = Predictions(only_real(proposals.logits[None], real), proposals.cxcywh[None])
        # As published, queries that only pad an image are trained as "no object", but not if there
        # is nothing to denoise in any image.
        trained = None if any(map(len, targets)) else noised.real
        denoised = Predictions(only_real(logits[:, :, :extra], trained), boxes[:, :, :extra])
        return (
            PredictionGroup("main", main),
            PredictionGroup("encoder", proposed),
            PredictionGroup("denoising", denoised, noised.assignment, noised.groups),
        )

    def undecayed(self) -> Set[int]:
        """Return the parameters of norms, and the biases outside of the backbone."""
        return norms_and_outer_biases(self)
