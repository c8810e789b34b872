"""Named DETR models, one function each."""

from torch import nn

from setmatch.losses.classification import Softmax
from setmatch.models.backbones.resnet import STAGES, Backbone, frozen_resnet, trainable_resnet
from setmatch.models.backbones.small_cnn import NanoCNN
from setmatch.models.detector import Detector
from setmatch.models.detr.ablations import FFNS, POSITIONS
from setmatch.models.detr.config import SMALLEST, TINY, DetrShape, Norm, TransformerShape
from setmatch.models.detr.model import DETR, muon_parameter_groups
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import PostNorm, PreNorm, Residual
from setmatch.models.layers.attention.position_encoding import LearnedPosition, PositionAtInput
from setmatch.models.layers.decoders.transformer_decoder import (
    Decoder,
    DecoderLayer,
    LastLayerDecoder,
)
from setmatch.models.layers.encoders.transformer_encoder import Encoder, EncoderLayer
from setmatch.models.layers.heads.detr_mask_head import DETRMaskHead
from setmatch.models.layers.heads.heads import BoxHead
from setmatch.models.layers.queries.queries import ContentQueries
from setmatch.models.parameter_groups import GroupParameters, backbone_and_rest

RESIDUALS: dict[Norm, Residual] = {"post": PostNorm, "pre": PreNorm}


def detr_r50(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50."""
    return _detr(frozen_resnet("resnet50"), num_classes, shape)


def detr_r50_dc5(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 with a dilated last stage: twice the resolution, for small objects."""
    return _detr(frozen_resnet("resnet50", dilate_last=True), num_classes, shape)


def detr_r101(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101."""
    return _detr(frozen_resnet("resnet101"), num_classes, shape)


def detr_r101_dc5(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101 with a dilated last stage."""
    return _detr(frozen_resnet("resnet101", dilate_last=True), num_classes, shape)


def detr_r50_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 with a mask for every query."""
    return _panoptic(frozen_resnet("resnet50", stages=STAGES), num_classes, shape)


def detr_r50_dc5_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 with a dilated last stage and a mask for every query."""
    backbone = frozen_resnet("resnet50", dilate_last=True, stages=STAGES)
    return _panoptic(backbone, num_classes, shape)


def detr_r101_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101 with a mask for every query."""
    return _panoptic(frozen_resnet("resnet101", stages=STAGES), num_classes, shape)


def detr_r18_tiny(num_classes: int, shape: DetrShape = TINY) -> Detector:
    """A small DETR on ResNet-18 with trained batch norms."""
    return _detr(trainable_resnet("resnet18"), num_classes, shape)


def detr_r18_tiny_panoptic(num_classes: int, shape: DetrShape = TINY) -> Detector:
    """A small DETR on ResNet-18, with a mask for every query."""
    return _panoptic(trainable_resnet("resnet18", stages=STAGES), num_classes, shape)


def detr_nano(num_classes: int, shape: DetrShape = SMALLEST) -> Detector:
    """The smallest DETR, for images of 64 to 100 pixels, on a backbone of its own."""
    backbone = NanoCNN((16, 32, 64))
    return _detr(backbone, num_classes, shape, parameter_groups=muon_parameter_groups)


def detr_demo(num_classes: int, shape: TransformerShape = TransformerShape()) -> Detector:
    """The 50-line demo of the paper: positions at the input, one linear box head."""
    backbone = frozen_resnet("resnet50", hides_padding=True)  # the published demo never pads
    class_loss = Softmax()
    return DETR(
        backbone,
        PositionAtInput(
            backbone.channels[-1], shape.dim, LearnedPosition(shape.dim), feature_scale=0.1
        ),
        Encoder(_encoder_layers(shape, PostNorm), nn.LayerNorm(shape.dim)),
        ContentQueries(shape.num_queries, shape.dim),
        LastLayerDecoder(_decoder_layers(shape, PostNorm), shape.dim),
        nn.Linear(shape.dim, class_loss.num_logits(num_classes)),
        BoxHead(shape.dim, 4),
        class_loss,
        shape.num_queries,
    )


def _panoptic(backbone: Backbone, num_classes: int, shape: DetrShape) -> Detector:
    mask_head = DETRMaskHead(shape.dim, shape.heads, backbone.channels[:-1])
    return _detr(backbone, num_classes, shape, mask_head)


def _detr(
    backbone: Backbone | NanoCNN,
    num_classes: int,
    shape: DetrShape,
    mask_head: DETRMaskHead | None = None,
    parameter_groups: GroupParameters = backbone_and_rest,
) -> Detector:
    residual, placement = RESIDUALS[shape.norm], POSITIONS[shape.position]
    class_loss = Softmax(shape.no_object_weight)
    with_ffn = FFNS[shape.ffn]
    return DETR(
        backbone,
        placement.tokens(backbone.channels[-1], shape.dim),
        placement.encoder(
            with_ffn(_encoder_layers(shape, residual)), residual.final_norm(shape.dim)
        ),
        placement.queries(shape.num_queries, shape.dim),
        Decoder(with_ffn(_decoder_layers(shape, residual)), shape.dim),
        nn.Linear(shape.dim, class_loss.num_logits(num_classes)),
        BoxHead(shape.dim, shape.dim, shape.dim, 4),
        class_loss,
        shape.num_queries,
        mask_head,
        parameter_groups,
    )


def _encoder_layers(shape: TransformerShape, residual: Residual) -> list[EncoderLayer]:
    return [
        EncoderLayer(shape.dim, shape.heads, shape.ffn_dim, shape.dropout, residual)
        for _ in range(shape.encoder_layers)
    ]


def _decoder_layers(shape: TransformerShape, residual: Residual) -> list[DecoderLayer]:
    return [
        DecoderLayer(shape.dim, shape.heads, shape.ffn_dim, shape.dropout, residual)
        for _ in range(shape.decoder_layers)
    ]


PRESETS = by_name(
    detr_r50,
    detr_r50_dc5,
    detr_r101,
    detr_r101_dc5,
    detr_r50_panoptic,
    detr_r50_dc5_panoptic,
    detr_r101_panoptic,
    detr_r18_tiny,
    detr_r18_tiny_panoptic,
    detr_nano,
    detr_demo,
)
BOX_PRESETS = {
    "detr_r50_panoptic": "detr_r50",
    "detr_r50_dc5_panoptic": "detr_r50_dc5",
    "detr_r101_panoptic": "detr_r101",
    "detr_r18_tiny_panoptic": "detr_r18_tiny",
}
