"""Named Conditional DETR models, and the parts that DAB-DETR shares."""

from torch import nn

from setmatch.losses.classification import Focal
from setmatch.models.backbones.resnet import Backbone, frozen_resnet
from setmatch.models.backbones.small_cnn import NanoCNN
from setmatch.models.conditional_detr.config import (
    R50,
    R50_DC5,
    DilatedPlacedShape,
    PlacedShape,
)
from setmatch.models.conditional_detr.model import PlacedDETR
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import FeedForward, PostNorm
from setmatch.models.layers.attention.position_encoding import PositionAtAttention, SinePosition
from setmatch.models.layers.decoders.conditional_decoder import (
    ConditionalDecoder,
    ConditionalDecoderLayer,
    CrossInputs,
    FirstCrossInputs,
)
from setmatch.models.layers.encoders.transformer_encoder import Encoder, EncoderLayer
from setmatch.models.layers.heads.heads import ClassHead
from setmatch.models.layers.queries.queries import LearnedQueries

MARGIN = 1e-5  # of coordinates to 0 and 1, where logits are infinite


def conditional_detr_r50(num_classes: int, shape: PlacedShape = R50) -> Detector:
    """Conditional DETR on ResNet-50."""
    return _conditional(frozen_resnet(shape.backbone), num_classes, shape)


def conditional_detr_r50_dc5(num_classes: int, shape: DilatedPlacedShape = R50_DC5) -> Detector:
    """Conditional DETR on ResNet-50 with a dilated last stage, for small objects."""
    return _conditional(frozen_resnet(shape.backbone, dilate_last=True), num_classes, shape)


def _conditional(backbone: Backbone | NanoCNN, num_classes: int, shape: PlacedShape) -> Detector:
    class_loss = Focal()
    return PlacedDETR(
        backbone,
        PositionAtAttention(backbone.channels[-1], shape.dim, SinePosition(shape.dim)),
        Encoder(encoder_layers(shape, nn.ReLU), nn.Identity()),
        LearnedQueries(shape.num_queries, shape.dim),
        ConditionalDecoder(decoder_layers(shape, nn.ReLU), shape.dim, MARGIN),
        ClassHead(shape.dim, class_loss.num_logits(num_classes)),
        class_loss,
        shape.num_queries,
    )


def encoder_layers(shape: PlacedShape, activation: type[nn.Module]) -> list[EncoderLayer]:
    """Return the layers of an encoder."""
    sizes = shape.dim, shape.encoder_heads, shape.encoder_ffn_dim, shape.dropout
    return [EncoderLayer(*sizes, PostNorm, activation) for _ in range(shape.encoder_layers)]


def decoder_layers(
    shape: PlacedShape, activation: type[nn.Module]
) -> list[ConditionalDecoderLayer]:
    """Return the layers of a decoder; the first adds positions to the empty contents."""
    later = [CrossInputs] * (shape.decoder_layers - 1)
    return [
        ConditionalDecoderLayer(
            shape.dim,
            shape.heads,
            inputs(shape.dim, shape.heads),
            FeedForward(shape.dim, shape.ffn_dim, shape.dropout, activation),
            shape.dropout,
        )
        for inputs in (FirstCrossInputs, *later)
    ]


PRESETS = by_name(conditional_detr_r50, conditional_detr_r50_dc5)
