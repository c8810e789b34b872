"""DETR whose queries have a place: Conditional DETR (arXiv 2108.06152), DAB-DETR (2201.12329)."""

from collections.abc import Sequence

from torch import nn

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detr.attention_trace import SingleMapDetector
from setmatch.models.detr.model import encoded_tokens
from setmatch.models.layers.decoders.conditional_decoder import AnchorDecoder, ConditionalDecoder
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import PredictionGroup, Predictions


class PlacedDETR(SingleMapDetector):
    """DETR with a decoder that knows where each query looks, and predicts boxes relative to it."""

    fixed_queries = True

    def __init__(
        self,
        backbone: nn.Module,
        embed: nn.Module,
        encoder: nn.Module,
        queries: nn.Module,
        decoder: ConditionalDecoder | AnchorDecoder,
        class_head: nn.Module,
        class_loss: ClassificationLoss,
        num_queries: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embed = embed
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.class_head = class_head
        self.class_loss = class_loss
        self.num_queries = num_queries

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return the one group "main"; no queries are made from the targets."""
        image = encoded_tokens(self, batch, self.feature_levels(batch)[-1])
        content, place = self.queries(image.memory)
        decoded, boxes = self.decoder(content, place, image.memory, image.position, image.attn_mask)
        return (PredictionGroup("main", Predictions(self.class_head(decoded), boxes)),)
