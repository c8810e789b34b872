"""Named models of the Deformable DETR family, one function each."""

from torch import nn

from setmatch.losses.classification import Focal
from setmatch.models.backbones.resnet import STAGES, Backbone, frozen_resnet
from setmatch.models.backbones.small_cnn import SmallCNN
from setmatch.models.deformable_detr.config import (
    FOUR_LEVELS,
    ONE_LEVEL,
    DeformableShape,
    DilatedShape,
)
from setmatch.models.deformable_detr.model import DeformableDETR
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import Attention, FeedForward
from setmatch.models.layers.attention.box_relations import NoBoxRelations
from setmatch.models.layers.attention.position_encoding import CenterSinePosition
from setmatch.models.layers.attention.value_sampling import CellSampling, ProjectedSampling
from setmatch.models.layers.decoders.deformable_decoder import DeformableDecoderLayer
from setmatch.models.layers.decoders.placed_decoder import PlacedRefiningDecoder, SteadyPlaceDecoder
from setmatch.models.layers.encoders.deformable_encoder import (
    DeformableEncoder,
    DeformableEncoderLayer,
    GroupNormConv,
)
from setmatch.models.layers.queries.placed_queries import LearnedPlaces, TokenPlaces

MapBackbone = Backbone | SmallCNN
MARGIN = 1e-5  # of coordinates to 0 and 1, where logits are infinite
SMALL_SIDE = -2.0  # the logit of the sides that untrained boxes have


def deformable_detr_r50(num_classes: int, shape: DeformableShape = FOUR_LEVELS) -> Detector:
    """Deformable DETR: queries sample points around a learned place."""
    return _plain(_backbone(shape), num_classes, shape)


def deformable_detr_r50_single_scale(
    num_classes: int, shape: DeformableShape = ONE_LEVEL
) -> Detector:
    """Deformable DETR on the coarsest map of the backbone alone."""
    return _plain(_backbone(shape), num_classes, shape)


def deformable_detr_r50_single_scale_dc5(
    num_classes: int, shape: DilatedShape = DilatedShape()
) -> Detector:
    """The same with a dilated last stage: twice the resolution, for small objects."""
    return _plain(_backbone(shape, dilate_last=True), num_classes, shape)


def deformable_detr_r50_refine(num_classes: int, shape: DeformableShape = FOUR_LEVELS) -> Detector:
    """Deformable DETR with refinement: each layer corrects the boxes of the layer before."""
    return _refining(_backbone(shape), num_classes, shape)


def deformable_detr_r50_two_stage(
    num_classes: int, shape: DeformableShape = FOUR_LEVELS
) -> Detector:
    """Deformable DETR in two stages: queries start at boxes that the encoder proposes."""
    return _two_stage(_backbone(shape), num_classes, shape)


def _plain(backbone: MapBackbone, num_classes: int, shape: DeformableShape) -> Detector:
    layers = _decoder_layers(shape, [CellSampling] * shape.decoder_layers)
    decoder = SteadyPlaceDecoder(layers, shape.dim, Focal().num_logits(num_classes), MARGIN)
    _start_small(decoder.get_parameter("box_step.last.bias"))
    queries = LearnedPlaces(shape.num_queries, shape.dim)
    encoder = _encoder(shape, backbone)
    return DeformableDETR(backbone, encoder, queries, decoder, Focal(), num_classes)


def _refining(backbone: MapBackbone, num_classes: int, shape: DeformableShape) -> Detector:
    # The first layer looks around places, which have no sides yet.
    sampling = [CellSampling, *[ProjectedSampling] * (shape.decoder_layers - 1)]
    decoder = _refining_decoder(shape, sampling, num_classes)
    _start_small(decoder.get_parameter("box_steps.0.last.bias"))
    queries = LearnedPlaces(shape.num_queries, shape.dim)
    encoder = _encoder(shape, backbone)
    return DeformableDETR(backbone, encoder, queries, decoder, Focal(), num_classes)


def _two_stage(backbone: MapBackbone, num_classes: int, shape: DeformableShape) -> Detector:
    decoder = _refining_decoder(shape, [ProjectedSampling] * shape.decoder_layers, num_classes)
    queries = TokenPlaces(shape.num_queries, shape.dim)
    encoder = _encoder(shape, backbone)
    return DeformableDETR(backbone, encoder, queries, decoder, Focal(), num_classes)


def _backbone(shape: DeformableShape, dilate_last: bool = False) -> Backbone:
    stages = STAGES[-1:] if shape.levels == 1 else STAGES[1:]
    return frozen_resnet(shape.backbone, dilate_last=dilate_last, stages=stages)


def _refining_decoder(
    shape: DeformableShape, sampling: list[type[ProjectedSampling]], num_classes: int
) -> PlacedRefiningDecoder:
    logits = Focal().num_logits(num_classes)
    return PlacedRefiningDecoder(_decoder_layers(shape, sampling), shape.dim, logits, MARGIN)


def _encoder(shape: DeformableShape, backbone: MapBackbone) -> DeformableEncoder:
    dim, channels = shape.dim, backbone.channels
    further = shape.levels - len(channels)
    widths = [channels[-1], *[dim] * (further - 1)][:further]
    return DeformableEncoder(
        [
            *(GroupNormConv(width, dim) for width in channels),
            *(GroupNormConv(width, dim, kernel=3, stride=2) for width in widths),
        ],
        CenterSinePosition(dim),
        [
            DeformableEncoderLayer(
                dim,
                CellSampling(dim, shape.encoder_heads, [shape.encoder_points] * shape.levels),
                FeedForward(dim, shape.encoder_ffn_dim, shape.dropout),
                shape.dropout,
            )
            for _ in range(shape.encoder_layers)
        ],
        dim,
    )


def _decoder_layers(
    shape: DeformableShape, sampling: list[type[ProjectedSampling]]
) -> list[DeformableDecoderLayer]:
    return [
        DeformableDecoderLayer(
            shape.dim,
            NoBoxRelations(),
            Attention(shape.dim, shape.heads, shape.dropout),
            each(shape.dim, shape.heads, [shape.points] * shape.levels),
            FeedForward(shape.dim, shape.ffn_dim, shape.dropout),
            shape.dropout,
        )
        for each in sampling
    ]


def _start_small(bias: nn.Parameter) -> None:
    """Let a head predict small sides before it is trained, as published; a place has none."""
    nn.init.constant_(bias[2:], SMALL_SIDE)


PRESETS = by_name(
    deformable_detr_r50,
    deformable_detr_r50_single_scale,
    deformable_detr_r50_single_scale_dc5,
    deformable_detr_r50_refine,
    deformable_detr_r50_two_stage,
)
