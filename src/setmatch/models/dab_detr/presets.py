"""Named DAB-DETR models: Conditional DETR with boxes for queries, and three more differences."""

from torch import nn

from setmatch.losses.classification import Focal
from setmatch.models.backbones.resnet import Backbone, frozen_resnet
from setmatch.models.backbones.small_cnn import NanoCNN
from setmatch.models.conditional_detr.model import PlacedDETR
from setmatch.models.conditional_detr.presets import MARGIN, decoder_layers, encoder_layers
from setmatch.models.dab_detr.config import R50, R50_DC5, AnchorShape, DilatedAnchorShape
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.position_encoding import (
    PositionAtAttention,
    ShortSinePosition,
)
from setmatch.models.layers.decoders.conditional_decoder import AnchorDecoder
from setmatch.models.layers.encoders.transformer_encoder import ScaledPositionEncoder
from setmatch.models.layers.heads.heads import ClassHead
from setmatch.models.layers.queries.queries import AnchorQueries


def dab_detr_r50(num_classes: int, shape: AnchorShape = R50) -> Detector:
    """DAB-DETR on ResNet-50: each query is a box, which every layer corrects."""
    return _dab(frozen_resnet(shape.backbone), num_classes, shape)


def dab_detr_r50_dc5(num_classes: int, shape: DilatedAnchorShape = R50_DC5) -> Detector:
    """DAB-DETR on ResNet-50 with a dilated last stage, for small objects."""
    return _dab(frozen_resnet(shape.backbone, dilate_last=True), num_classes, shape)


def _dab(backbone: Backbone | NanoCNN, num_classes: int, shape: AnchorShape) -> Detector:
    class_loss = Focal()
    return PlacedDETR(
        backbone,
        PositionAtAttention(backbone.channels[-1], shape.dim, ShortSinePosition(shape.dim)),
        ScaledPositionEncoder(encoder_layers(shape, nn.PReLU), shape.dim),
        AnchorQueries(shape.num_queries, shape.dim, shape.patterns),
        AnchorDecoder(decoder_layers(shape, nn.PReLU), shape.dim, MARGIN),
        ClassHead(shape.dim, class_loss.num_logits(num_classes)),
        class_loss,
        shape.all_queries,
    )


PRESETS = by_name(dab_detr_r50, dab_detr_r50_dc5)
