"""Named models of the setmatch family, one function each."""

from setmatch.losses.classification import Varifocal
from setmatch.models.backbones.resnet import STAGES, Backbone, trainable_resnet
from setmatch.models.backbones.small_cnn import SmallCNN
from setmatch.models.backbones.timm import TimmBackbone
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import Attention, FeedForward, PostNorm
from setmatch.models.layers.attention.box_relations import BoxRelationBias
from setmatch.models.layers.attention.deformable_attention import DeformableAttention
from setmatch.models.layers.decoders.deformable_decoder import (
    DeformableDecoderLayer,
    RefiningDecoder,
)
from setmatch.models.layers.encoders.hybrid_encoder import HybridEncoder
from setmatch.models.layers.encoders.transformer_encoder import EncoderLayer
from setmatch.models.layers.heads.dot_product_mask_head import DotProductMaskHead
from setmatch.models.layers.queries.denoising import Denoising
from setmatch.models.layers.queries.queries import QuerySelection
from setmatch.models.parameter_groups import GroupParameters
from setmatch.models.setmatch.config import NANO, MultiScaleShape, TimmShape
from setmatch.models.setmatch.model import (
    SetMatchDetector,
    muon_parameter_groups,
    pretrained_parameter_groups,
)

LEVELS = ("layer2", "layer3", "layer4")  # strides 8, 16 and 32
NARROW = (32, 64, 128, 128)  # backbone channels of setmatch_n at strides 4, 8, 16 and 32


def setmatch_n(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    """The smallest of the fast-converging family, on a backbone made for CPUs."""
    return _multi_scale(SmallCNN(NARROW), num_classes, shape)


def setmatch_s(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-18."""
    backbone = trainable_resnet("resnet18", stages=LEVELS)
    return _multi_scale(backbone, num_classes, shape, pretrained_parameter_groups)


def setmatch_m(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-50."""
    backbone = trainable_resnet("resnet50", stages=LEVELS)
    return _multi_scale(backbone, num_classes, shape, pretrained_parameter_groups)


def setmatch_timm(num_classes: int, shape: TimmShape = TimmShape()) -> Detector:
    """The fast-converging family on any timm backbone: model.arguments.backbone."""
    return _multi_scale(
        TimmBackbone(shape.backbone), num_classes, shape, pretrained_parameter_groups
    )


def setmatch_n_panoptic(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    """The smallest of the fast-converging family, with a mask for every query."""
    return _panoptic_multi_scale(SmallCNN(NARROW, levels=4), num_classes, shape)


def setmatch_s_panoptic(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-18, with a mask for every query."""
    backbone = trainable_resnet("resnet18", stages=STAGES)
    return _panoptic_multi_scale(backbone, num_classes, shape, pretrained_parameter_groups)


def setmatch_m_panoptic(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-50, with a mask for every query."""
    backbone = trainable_resnet("resnet50", stages=STAGES)
    return _panoptic_multi_scale(backbone, num_classes, shape, pretrained_parameter_groups)


def _panoptic_multi_scale(
    backbone: Backbone | SmallCNN,
    num_classes: int,
    shape: MultiScaleShape,
    parameter_groups: GroupParameters = muon_parameter_groups,
) -> Detector:
    mask_head = DotProductMaskHead(shape.dim, backbone.channels[0])
    return _multi_scale(backbone, num_classes, shape, parameter_groups, mask_head)


def _multi_scale(
    backbone: Backbone | SmallCNN | TimmBackbone,
    num_classes: int,
    shape: MultiScaleShape,
    parameter_groups: GroupParameters = muon_parameter_groups,
    mask_head: DotProductMaskHead | None = None,
) -> Detector:
    class_loss = Varifocal()
    logits = class_loss.num_logits(num_classes)
    levels = len(LEVELS)
    return SetMatchDetector(
        backbone,
        HybridEncoder(
            backbone.channels[-levels:],
            shape.dim,
            [
                EncoderLayer(shape.dim, shape.heads, shape.ffn_dim, 0.0, PostNorm)
                for _ in range(shape.encoder_layers)
            ],
        ),
        QuerySelection(shape.num_queries, shape.dim, logits),
        Denoising(num_classes, shape.dim, shape.denoising_queries),
        RefiningDecoder(
            [
                DeformableDecoderLayer(
                    shape.dim,
                    BoxRelationBias(shape.heads),
                    Attention(shape.dim, shape.heads, dropout=0.0),
                    DeformableAttention(shape.dim, shape.heads, levels, shape.points),
                    FeedForward(shape.dim, shape.ffn_dim, dropout=0.0),
                )
                for _ in range(shape.decoder_layers)
            ],
            shape.dim,
            logits,
        ),
        class_loss,
        mask_head,
        parameter_groups,
    )


PRESETS = by_name(
    setmatch_n,
    setmatch_s,
    setmatch_m,
    setmatch_timm,
    setmatch_n_panoptic,
    setmatch_s_panoptic,
    setmatch_m_panoptic,
)
BOX_PRESETS = {
    "setmatch_n_panoptic": "setmatch_n",
    "setmatch_s_panoptic": "setmatch_s",
    "setmatch_m_panoptic": "setmatch_m",
}
