"""DETR: the whole model on one screen (arXiv 2005.12872)."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from setmatch.losses.classification import ClassificationLoss
from setmatch.models.detr.attention_trace import SingleMapDetector
from setmatch.models.layers.cells import Cells, cells_of
from setmatch.models.layers.heads.detr_mask_head import DETRMaskHead
from setmatch.models.parameter_groups import (
    GroupParameters,
    ParameterGroups,
    backbone_and_rest,
    split_muon_params,
)
from setmatch.structures.batch import Batch, Target
from setmatch.structures.outputs import PredictionGroup, Predictions


@dataclass(frozen=True)
class EncodedImage:
    """The tokens of one feature map before and after the encoder, and where they are."""

    tokens: Float[Tensor, "B N D"]
    memory: Float[Tensor, "B N D"]
    position: Float[Tensor, "#B N D"] | None
    attn_mask: Bool[Tensor, "B 1 1 N"] | None  # False for padding; None if there is none


def encoded_tokens(
    model: SingleMapDetector, batch: Batch, features: Float[Tensor, "B C h w"]
) -> EncodedImage:
    """Return the encoded tokens of a feature map."""
    cells = _cells(batch, features, model.hides_padding)
    valid = features.new_ones(1, *features.shape[-2:]) > 0 if cells is None else cells.valid
    tokens, position = model.embed(features, valid)
    attn_mask = None if cells is None else cells.valid.flatten(1)[:, None, None]
    return EncodedImage(tokens, model.encoder(tokens, position, attn_mask), position, attn_mask)


def _cells(batch: Batch, features: Float[Tensor, "B C h w"], hides_padding: bool) -> Cells | None:
    """Return the cells on an image, as an image alone has them or as published."""
    if hides_padding or not batch.padded:
        return cells_of(batch, features)
    nearest = F.interpolate(batch.valid[:, None].float(), size=features.shape[-2:])
    return Cells(nearest[:, 0] > 0)


class DETR(SingleMapDetector):
    """DETR: backbone, embedding, encoder, queries, decoder, heads (arXiv 2005.12872)."""

    fixed_queries = True

    def __init__(
        self,
        backbone: nn.Module,
        embed: nn.Module,
        encoder: nn.Module,
        queries: nn.Module,
        decoder: nn.Module,
        class_head: nn.Module,
        box_head: nn.Module,
        class_loss: ClassificationLoss,
        num_queries: int,
        mask_head: DETRMaskHead | None = None,
        parameter_groups: GroupParameters = backbone_and_rest,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embed = embed
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.class_head = class_head
        self.box_head = box_head
        self.class_loss = class_loss
        self.num_queries = num_queries
        self.mask_head = mask_head
        self._parameter_groups = parameter_groups

    def forward(self, batch: Batch, targets: Sequence[Target] = ()) -> tuple[PredictionGroup, ...]:
        """Return the one group "main"; DETR makes no queries from the targets."""
        levels = self.feature_levels(batch)
        image = encoded_tokens(self, batch, levels[-1])
        content, query_position = self.queries(image.memory)
        decoded = self.decoder(
            content, query_position, image.memory, image.position, image.attn_mask
        )
        predictions = Predictions(self.class_head(decoded), self.box_head(decoded))
        if self.mask_head is None:
            return (PredictionGroup("main", predictions),)
        hidden = [cells_of(batch, level) for level in levels] if self.hides_padding else None
        mask_decoder = self.mask_head(
            decoded[-1], image.memory, image.tokens, levels, image.attn_mask, hidden
        )
        return (self._with_masks(predictions, mask_decoder),)


def muon_parameter_groups(detector: DETR) -> ParameterGroups:
    """Return the groups for training from scratch with Muon: hidden matrices and the rest."""
    last = (detector.class_head, *list(detector.box_head.modules())[-1:])
    return split_muon_params(detector, detector.backbone, last)
