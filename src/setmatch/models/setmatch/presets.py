"""Named models of the setmatch family, a function each."""

from setmatch.losses.classification import Varifocal
from setmatch.models.backbones.resnet import STAGES, Backbone, live_resnet
from setmatch.models.backbones.small_cnn import SmallTrunk
from setmatch.models.backbones.timm import TimmTrunk
from setmatch.models.detector import Detector
from setmatch.models.layers.attention import PostNorm
from setmatch.models.layers.deformable_decoder import DeformableDecoderLayer, RefiningDecoder
from setmatch.models.layers.denoising import Denoising
from setmatch.models.layers.dot_product_mask_head import PixelMaskHead
from setmatch.models.layers.hybrid_encoder import HybridEncoder
from setmatch.models.layers.queries import TopKQueries
from setmatch.models.layers.transformer_encoder import EncoderLayer
from setmatch.models.setmatch.config import NANO, MultiScaleShape, TimmShape
from setmatch.models.setmatch.model import MultiScaleDetector, PretrainedMultiScaleDetector

LEVELS = ("layer2", "layer3", "layer4")  # strides 8, 16 and 32
NARROW = (32, 64, 128, 128)  # channels of the trunk of setmatch_n, at strides 4, 8, 16 and 32


def setmatch_n(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    """The smallest of the fast-converging family: a trunk of its own, made for a CPU."""
    return _multi_scale(SmallTrunk(NARROW), num_classes, shape)


def setmatch_s(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-18."""
    backbone = live_resnet("resnet18", stages=LEVELS)
    return _multi_scale(backbone, num_classes, shape, PretrainedMultiScaleDetector)


def setmatch_m(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-50."""
    backbone = live_resnet("resnet50", stages=LEVELS)
    return _multi_scale(backbone, num_classes, shape, PretrainedMultiScaleDetector)


def setmatch_timm(num_classes: int, shape: TimmShape = TimmShape()) -> Detector:
    """The fast-converging family on any trunk of timm, by name: model.arguments.trunk."""
    return _multi_scale(TimmTrunk(shape.trunk), num_classes, shape, PretrainedMultiScaleDetector)


def setmatch_n_panoptic(num_classes: int, shape: MultiScaleShape = NANO) -> Detector:
    """The smallest of the fast-converging family, with a mask for every query."""
    return _panoptic_multi_scale(SmallTrunk(NARROW, levels=4), num_classes, shape)


def setmatch_s_panoptic(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-18, with a mask for every query."""
    backbone = live_resnet("resnet18", stages=STAGES)
    return _panoptic_multi_scale(backbone, num_classes, shape, PretrainedMultiScaleDetector)


def setmatch_m_panoptic(num_classes: int, shape: MultiScaleShape = MultiScaleShape()) -> Detector:
    """The fast-converging family on ResNet-50, with a mask for every query."""
    backbone = live_resnet("resnet50", stages=STAGES)
    return _panoptic_multi_scale(backbone, num_classes, shape, PretrainedMultiScaleDetector)


def _panoptic_multi_scale(
    backbone: Backbone | SmallTrunk,
    num_classes: int,
    shape: MultiScaleShape,
    composition: type[MultiScaleDetector] = MultiScaleDetector,
) -> Detector:
    mask_head = PixelMaskHead(shape.dim, backbone.channels[0])
    return _multi_scale(backbone, num_classes, shape, composition, mask_head)


def _multi_scale(
    backbone: Backbone | SmallTrunk | TimmTrunk,
    num_classes: int,
    shape: MultiScaleShape,
    composition: type[MultiScaleDetector] = MultiScaleDetector,
    mask_head: PixelMaskHead | None = None,
) -> Detector:
    scoring = Varifocal()
    logits = scoring.num_logits(num_classes)
    levels = len(LEVELS)
    return composition(
        backbone,
        HybridEncoder(
            backbone.channels[-levels:],
            shape.dim,
            [
                EncoderLayer(shape.dim, shape.heads, shape.ffn_dim, 0.0, PostNorm)
                for _ in range(shape.encoder_layers)
            ],
        ),
        TopKQueries(shape.num_queries, shape.dim, logits),
        Denoising(num_classes, shape.dim, shape.denoising_queries),
        RefiningDecoder(
            [
                DeformableDecoderLayer(shape.dim, shape.heads, shape.ffn_dim, levels, shape.points)
                for _ in range(shape.decoder_layers)
            ],
            shape.dim,
            logits,
        ),
        scoring,
        mask_head,
    )
