"""Named models of the RT-DETR family, one function each."""

from torch import nn

from setmatch.losses.classification import Varifocal
from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.backbones.resnet_vd import ResNetVD
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import Attention, FeedForward, PostNorm
from setmatch.models.layers.attention.box_relations import NoBoxRelations
from setmatch.models.layers.attention.position_encoding import GridPosition, TrainingPosition
from setmatch.models.layers.attention.value_sampling import NearestSampling, ProjectedSampling
from setmatch.models.layers.decoders.deformable_decoder import (
    BoxPosition,
    DeformableDecoderLayer,
    RefiningDecoder,
)
from setmatch.models.layers.encoders.fusion_blocks import ConvNormSiLU, CSPFusion, ShrinkConv
from setmatch.models.layers.encoders.hybrid_encoder import PyramidEncoder
from setmatch.models.layers.encoders.transformer_encoder import EncoderLayer
from setmatch.models.layers.queries.denoising import rtdetr_denoising
from setmatch.models.layers.queries.queries import AnchorSelection
from setmatch.models.rtdetr.config import (
    R18,
    R34,
    R50,
    R101,
    V2_R18,
    V2_R34,
    V2_R50,
    V2_R50_M,
    V2_R101,
    RTDetrShape,
    RTDetrV2Shape,
)
from setmatch.models.rtdetr.model import RTDetrDetector

MARGIN = 1e-5  # of coordinates to 0 and 1, where logits are infinite


def rtdetr_r18(num_classes: int, shape: RTDetrShape = R18) -> Detector:
    """RT-DETR on ResNet-18-vd, three decoder layers."""
    return _rtdetr(num_classes, shape, _sampling(shape))


def rtdetr_r34(num_classes: int, shape: RTDetrShape = R34) -> Detector:
    """RT-DETR on ResNet-34-vd, four decoder layers."""
    return _rtdetr(num_classes, shape, _sampling(shape))


def rtdetr_r50(num_classes: int, shape: RTDetrShape = R50) -> Detector:
    """RT-DETR on ResNet-50-vd, six decoder layers."""
    return _rtdetr(num_classes, shape, _sampling(shape))


def rtdetr_r101(num_classes: int, shape: RTDetrShape = R101) -> Detector:
    """RT-DETR on ResNet-101-vd, a wider encoder."""
    return _rtdetr(num_classes, shape, _sampling(shape))


def rtdetr_v2_r18(num_classes: int, shape: RTDetrV2Shape = V2_R18) -> Detector:
    """RT-DETRv2-S on ResNet-18-vd."""
    return _rtdetr(num_classes, shape, _sampling_v2(shape))


def rtdetr_v2_r34(num_classes: int, shape: RTDetrV2Shape = V2_R34) -> Detector:
    """RT-DETRv2 on ResNet-34-vd."""
    return _rtdetr(num_classes, shape, _sampling_v2(shape))


def rtdetr_v2_r50_m(num_classes: int, shape: RTDetrV2Shape = V2_R50_M) -> Detector:
    """RT-DETRv2-M on ResNet-50-vd: a narrower fusion, and three of six decoder layers."""
    return _rtdetr(num_classes, shape, _sampling_v2(shape))


def rtdetr_v2_r50(num_classes: int, shape: RTDetrV2Shape = V2_R50) -> Detector:
    """RT-DETRv2-L on ResNet-50-vd."""
    return _rtdetr(num_classes, shape, _sampling_v2(shape))


def rtdetr_v2_r101(num_classes: int, shape: RTDetrV2Shape = V2_R101) -> Detector:
    """RT-DETRv2-X on ResNet-101-vd."""
    return _rtdetr(num_classes, shape, _sampling_v2(shape))


def _sampling(shape: RTDetrShape) -> list[ProjectedSampling]:
    return [
        ProjectedSampling(shape.dim, shape.heads, shape.points) for _ in range(shape.decoder_layers)
    ]


def _sampling_v2(shape: RTDetrV2Shape) -> list[ProjectedSampling]:
    attention = NearestSampling if shape.nearest else ProjectedSampling
    return [
        attention(shape.dim, shape.heads, shape.points, shape.offset_scale)
        for _ in range(shape.decoder_layers)
    ]


def _rtdetr(num_classes: int, shape: RTDetrShape, sampling: list[ProjectedSampling]) -> Detector:
    class_loss = Varifocal()
    logits = class_loss.num_logits(num_classes)
    return RTDetrDetector(
        ResNetVD(
            shape.stem,
            shape.stage_out,
            shape.stage_blocks,
            shape.levels,
            shape.bottleneck,
            shape.frozen_norms,
        ),
        _encoder(shape),
        AnchorSelection(shape.num_queries, shape.dim, logits),
        rtdetr_denoising(
            num_classes, shape.dim, shape.denoising_queries, shape.label_noise, shape.box_noise
        ),
        RefiningDecoder(
            [
                DeformableDecoderLayer(
                    shape.dim,
                    NoBoxRelations(),
                    Attention(shape.dim, shape.heads, dropout=0.0),
                    cross_attention,
                    FeedForward(shape.dim, shape.ffn_dim, dropout=0.0),
                )
                for cross_attention in sampling
            ],
            shape.dim,
            logits,
            BoxPosition,
            MARGIN,
            shape.eval_layers,
        ),
        class_loss,
    )


def _encoder(shape: RTDetrShape) -> PyramidEncoder:
    dim = shape.encoder_dim
    steps = range(shape.levels - 1)
    position = GridPosition if shape.eval_positions else TrainingPosition

    def fusion() -> list[CSPFusion]:
        return [CSPFusion(dim, shape.fusion_dim, shape.fusion_blocks) for _ in steps]

    return PyramidEncoder(
        project=[ConvNorm(width, dim, kernel=1) for width in shape.stage_out[-shape.levels :]],
        position=position(dim),
        layers=[
            EncoderLayer(
                dim, shape.encoder_heads, shape.encoder_ffn_dim, 0.0, PostNorm, activation=nn.GELU
            )
            for _ in range(shape.encoder_layers)
        ],
        lateral=[ConvNormSiLU(dim, dim, kernel=1) for _ in steps],
        down=fusion(),
        shrink=[ShrinkConv(dim) for _ in steps],
        up=fusion(),
        to_memory=[
            *(ConvNorm(dim, shape.dim, kernel=1) for _ in range(shape.levels)),
            *(ConvNorm(dim, shape.dim, stride=2) for _ in range(shape.extra_levels)),
        ],
    )


PRESETS = by_name(
    rtdetr_r18,
    rtdetr_r34,
    rtdetr_r50,
    rtdetr_r101,
    rtdetr_v2_r18,
    rtdetr_v2_r34,
    rtdetr_v2_r50_m,
    rtdetr_v2_r50,
    rtdetr_v2_r101,
)
