"""The setmatch detector: the whole model on one screen."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.attention_trace import SamplingDetector
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.cells import Cells, cells_of
from setmatch.models.layers.decoders.deformable_decoder import RefiningDecoder
from setmatch.models.layers.encoders.hybrid_encoder import HybridEncoder, Memory
from setmatch.models.layers.heads.dot_product_mask_head import DotProductMaskHead
from setmatch.models.layers.heads.heads import ClassHead
from setmatch.models.layers.queries.denoising import Denoising, denoising_attn_mask
from setmatch.models.layers.queries.queries import EncoderProposals, QuerySelection, only_real
from setmatch.models.parameter_groups import (
    GroupParameters,
    ParameterGroups,
    split_backbone_params,
    split_muon_params,
)
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.outputs import PredictionGroup, Predictions


class SetMatchDetector(SamplingDetector):
    """Backbone, hybrid encoder, query selection, a decoder that refines boxes.

    In training there are two more groups of predictions: "encoder", the selected tokens' own, and
    "denoising".
    """

    def __init__(
        self,
        backbone: nn.Module,
        encoder: HybridEncoder,
        queries: QuerySelection,
        denoising: Denoising,
        decoder: RefiningDecoder,
        class_loss: ClassificationLoss,
        mask_head: DotProductMaskHead | None = None,
        parameter_groups: GroupParameters | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.denoising = denoising
        self.decoder = decoder
        self.class_loss = class_loss
        self.num_queries = queries.num_queries
        self.mask_head = mask_head
        self._parameter_groups = parameter_groups or muon_parameter_groups

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return "main"; in training also "encoder" and, made from the targets, "denoising".

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        levels = self.feature_levels(batch)
        memory = self.encoder(levels[-len(self.encoder.project) :], batch)
        proposals = self.queries(memory)
        content, cxcywh = proposals.content, proposals.cxcywh.detach()
        query_mask = QueryAttentionMask.in_order(content, proposals.real)
        finest = levels[0], cells_of(batch, levels[0])
        if not self.training:
            logits, boxes, content = self.decoder(content, cxcywh, memory, query_mask)
            return (self._main(logits, boxes, content, proposals, memory, finest),)
        require_targets(targets, len(batch.pixels), self.denoising.num_classes, batch.pixels.device)
        noised = self.denoising(targets)
        logits, boxes, content = self.decoder(
            torch.cat([noised.content.to(content.dtype), content], dim=1),
            torch.cat([noised.cxcywh, cxcywh], dim=1),
            memory,
            denoising_attn_mask(noised, query_mask),
        )
        extra = noised.real.shape[1]  # denoising queries come first
        denoised = only_real(logits[:, :, :extra], noised.real)
        proposed = Predictions(
            only_real(proposals.logits[None], proposals.real), proposals.cxcywh[None]
        )
        logits, main_boxes, content = logits[:, :, extra:], boxes[:, :, extra:], content[:, extra:]
        return (
            self._main(logits, main_boxes, content, proposals, memory, finest),
            PredictionGroup("encoder", proposed),
            PredictionGroup(
                "denoising",
                Predictions(denoised, boxes[:, :, :extra]),
                noised.assignment,
                noised.groups,
            ),
        )

    def _main(
        self,
        logits: Float[Tensor, "L B Q C"],
        boxes: Float[Tensor, "L B Q 4"],
        content: Float[Tensor, "B Q D"],
        proposals: EncoderProposals,
        memory: Memory,
        finest: tuple[Float[Tensor, "B _ h w"], Cells | None],
    ) -> PredictionGroup:
        predictions = Predictions(only_real(logits, proposals.real), boxes)
        if self.mask_head is None:
            return PredictionGroup("main", predictions)
        return self._with_masks(predictions, self.mask_head(content, boxes[-1], memory, *finest))


def muon_parameter_groups(detector: SetMatchDetector) -> ParameterGroups:
    """Return the groups for training from scratch with Muon: hidden matrices and the rest.

    The first convolution, the last layers of heads, embeddings and the layers that place sampling
    points are not for Muon (see training/optim/muon.py).
    """
    excluded = [
        module
        for name, module in detector.named_modules()
        if isinstance(module, ClassHead) or name.rsplit(".", 1)[-1] in ("last", "offsets")
    ]
    return split_muon_params(detector, detector.backbone, excluded)


def pretrained_parameter_groups(detector: SetMatchDetector) -> ParameterGroups:
    """Return the same groups with a pretrained backbone apart, which Muon's steps would ruin."""
    return split_backbone_params(muon_parameter_groups(detector), detector.backbone)
