"""RF-DETR (arXiv 2511.09554): the whole model on one screen, and that of LW-DETR (2406.03459)."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.attention_trace import SamplingDetector
from setmatch.models.backbones.windowed_transformer import WindowedTransformer
from setmatch.models.class_rows import ClassRows
from setmatch.models.layers.attention.box_relations import QueryAttentionMask
from setmatch.models.layers.decoders.steady_decoder import SteadyDecoder
from setmatch.models.layers.encoders.pyramid_projector import PyramidProjector
from setmatch.models.layers.encoders.scale_projector import ScaleProjector
from setmatch.models.layers.heads.pixel_mask_head import PixelMaskHead
from setmatch.models.layers.queries.group_queries import GroupQueries
from setmatch.models.layers.queries.queries import only_real
from setmatch.structures.batch import Batch, Target, require_targets
from setmatch.structures.outputs import PredictionGroup, Predictions


@dataclass(frozen=True)
class Rates:
    """Factors of the learning rate: of each block of the backbone to the next, and of the decoder.

    The defaults are those of RF-DETR.
    """

    block_decay: float = 0.8
    decoder: float = 0.7


AS_RFDETR = Rates()


class RFDETRDetector(SamplingDetector):
    """Windowed vision transformer, projector, group queries, a decoder around steady boxes.

    In training there is one more group of predictions, "encoder", the selected tokens' own; both
    hold the queries of all query groups, which are matched apart. Masks are the last layer's.
    """

    backbone: WindowedTransformer
    class_rows = (ClassRows(re.compile(r"(queries\.class_heads\.\d+|decoder\.class_head)\.\w+")),)

    def __init__(
        self,
        backbone: WindowedTransformer,
        encoder: ScaleProjector | PyramidProjector,
        queries: GroupQueries,
        decoder: SteadyDecoder,
        class_loss: ClassificationLoss,
        num_classes: int,
        mask_head: PixelMaskHead | None = None,
        rates: Rates = AS_RFDETR,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.class_loss = class_loss
        self.num_queries = queries.num_queries
        self.num_classes = num_classes
        self.mask_head = mask_head
        self.rates = rates

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return "main"; in training also "encoder".

        Raises DataError in training for targets that are missing or of unknown classes.
        """
        if self.training:
            require_targets(targets, len(batch.pixels), self.num_classes, batch.pixels.device)
        memory = self.encoder(self.feature_levels(batch), batch)
        proposals = self.queries(memory)
        groups, real = proposals.groups, proposals.real
        query_mask = QueryAttentionMask.in_order(
            proposals.content.unflatten(1, (groups, -1)).flatten(0, 1),
            None if real is None else real.unflatten(1, (groups, -1)).flatten(0, 1),
        )
        logits, boxes, decoded = self.decoder(
            proposals.content, proposals.start_cxcywh, memory, query_mask
        )
        main = PredictionGroup("main", Predictions(only_real(logits, real), boxes))
        if self.mask_head is not None:
            size_px = batch.pixels.shape[-2], batch.pixels.shape[-1]
            mask_decoder = self.mask_head(decoded[-1], memory, size_px)
            main = self._with_masks(main.predictions, mask_decoder)
        if not self.training:
            return (main,)
        proposed = Predictions(only_real(proposals.logits[None], real), proposals.cxcywh[None])
        return (
            replace(main, query_groups=groups),
            PredictionGroup("encoder", proposed, query_groups=groups),
        )

    def rate_factors(self) -> dict[int, float]:
        """Return the factors of the backbone's blocks and of the decoder's layers."""
        parts = (self.decoder.layers, self.decoder.norm, self.decoder.position)
        slow = {id(each): self.rates.decoder for part in parts for each in part.parameters()}
        return slow | self.backbone.rate_factors(self.rates.block_decay)

    def undecayed(self) -> Set[int]:
        """Return the parameters of the backbone that have no weight decay."""
        return self.backbone.undecayed()
