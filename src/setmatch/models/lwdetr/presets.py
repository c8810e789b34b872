"""Named models of the LW-DETR family, one function each."""

from setmatch.losses.classification import IoUAware
from setmatch.models.backbones.windowed_vit import WindowedViT
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.encoders.pyramid_projector import PyramidProjector
from setmatch.models.layers.queries.group_queries import GroupQueries
from setmatch.models.lwdetr.config import LARGE, MEDIUM, SMALL, TINY, XLARGE, LWDETRShape
from setmatch.models.rfdetr.model import Rates, RFDETRDetector
from setmatch.models.rfdetr.presets import steady_decoder


def lwdetr_t(num_classes: int, shape: LWDETRShape = TINY) -> Detector:
    """LW-DETR-tiny: six blocks of 192 channels, 100 queries."""
    return _lwdetr(num_classes, shape, Rates(0.8, 0.7))


def lwdetr_s(num_classes: int, shape: LWDETRShape = SMALL) -> Detector:
    """LW-DETR-small: ten blocks of 192 channels, 300 queries."""
    return _lwdetr(num_classes, shape, Rates(0.8, 0.7))


def lwdetr_m(num_classes: int, shape: LWDETRShape = MEDIUM) -> Detector:
    """LW-DETR-medium: ten blocks of 384 channels."""
    return _lwdetr(num_classes, shape, Rates(0.7, 0.7))


def lwdetr_l(num_classes: int, shape: LWDETRShape = LARGE) -> Detector:
    """LW-DETR-large: a decoder of 384 channels, which samples levels of stride 8 and 32."""
    return _lwdetr(num_classes, shape, Rates(0.7, 0.5))


def lwdetr_x(num_classes: int, shape: LWDETRShape = XLARGE) -> Detector:
    """LW-DETR-xlarge: the same with ten blocks of 768 channels."""
    return _lwdetr(num_classes, shape, Rates(0.75, 0.5))


def _lwdetr(num_classes: int, shape: LWDETRShape, rates: Rates) -> Detector:
    class_loss = IoUAware()
    logits = class_loss.num_logits(num_classes)
    backbone = WindowedViT(
        shape.backbone_dim,
        shape.backbone_heads,
        shape.backbone_ffn_dim,
        shape.patch,
        shape.windows,
        shape.grid,
        shape.windowed,
        shape.outputs,
        shape.drop_path,
    )
    encoder = PyramidProjector(
        backbone.channels, shape.dim, shape.projector_dim, shape.projector_blocks, shape.scales
    )
    return RFDETRDetector(
        backbone,
        encoder,
        GroupQueries(shape.num_queries, shape.dim, logits, shape.query_groups),
        steady_decoder(shape, len(shape.scales), logits),
        class_loss,
        num_classes,
        rates=rates,
    )


PRESETS = by_name(lwdetr_t, lwdetr_s, lwdetr_m, lwdetr_l, lwdetr_x)
