"""Named models of the RF-DETR family, one function each."""

from setmatch.losses.classification import IoUAware
from setmatch.models.backbones.dinov2 import WindowedDINOv2
from setmatch.models.detector import Detector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import FeedForward
from setmatch.models.layers.attention.box_relations import NoBoxRelations
from setmatch.models.layers.attention.value_sampling import ProjectedSampling
from setmatch.models.layers.decoders.deformable_decoder import DeformableDecoderLayer
from setmatch.models.layers.decoders.steady_decoder import SteadyDecoder
from setmatch.models.layers.encoders.scale_projector import ScaleProjector
from setmatch.models.layers.heads.pixel_mask_head import PixelMaskHead
from setmatch.models.layers.queries.group_queries import GroupAttention, GroupQueries
from setmatch.models.rfdetr.config import (
    BASE,
    LARGE,
    MASK_LARGE,
    MASK_MEDIUM,
    MASK_NANO,
    MASK_SMALL,
    MEDIUM,
    NANO,
    SMALL,
    RFDETRMaskShape,
    RFDETRShape,
    WindowedShape,
)
from setmatch.models.rfdetr.model import RFDETRDetector


def rfdetr_n(num_classes: int, shape: RFDETRShape = NANO) -> Detector:
    """RF-DETR-N: windowed DINOv2-S, two decoder layers, images of 384 pixels."""
    return _rfdetr(num_classes, shape)


def rfdetr_s(num_classes: int, shape: RFDETRShape = SMALL) -> Detector:
    """RF-DETR-S: three decoder layers, images of 512 pixels."""
    return _rfdetr(num_classes, shape)


def rfdetr_m(num_classes: int, shape: RFDETRShape = MEDIUM) -> Detector:
    """RF-DETR-M: four decoder layers, images of 576 pixels."""
    return _rfdetr(num_classes, shape)


def rfdetr_l(num_classes: int, shape: RFDETRShape = LARGE) -> Detector:
    """RF-DETR-L of 2026: four decoder layers, images of 704 pixels."""
    return _rfdetr(num_classes, shape)


def rfdetr_b(num_classes: int, shape: RFDETRShape = BASE) -> Detector:
    """RF-DETR-B, the first one: patches of 14 pixels in 4x4 windows, images of 560 pixels."""
    return _rfdetr(num_classes, shape)


def rfdetr_seg_n(num_classes: int, shape: RFDETRMaskShape = MASK_NANO) -> Detector:
    """RF-DETR-Seg-N, with a mask for every query: images of 312 pixels."""
    return _with_masks(num_classes, shape)


def rfdetr_seg_s(num_classes: int, shape: RFDETRMaskShape = MASK_SMALL) -> Detector:
    """RF-DETR-Seg-S, with a mask for every query: images of 384 pixels."""
    return _with_masks(num_classes, shape)


def rfdetr_seg_m(num_classes: int, shape: RFDETRMaskShape = MASK_MEDIUM) -> Detector:
    """RF-DETR-Seg-M, with a mask for every query: images of 432 pixels."""
    return _with_masks(num_classes, shape)


def rfdetr_seg_l(num_classes: int, shape: RFDETRMaskShape = MASK_LARGE) -> Detector:
    """RF-DETR-Seg-L, with a mask for every query: images of 504 pixels."""
    return _with_masks(num_classes, shape)


def _with_masks(num_classes: int, shape: RFDETRMaskShape) -> Detector:
    head = PixelMaskHead(shape.dim, shape.mask_ffn_dim, shape.decoder_layers)
    return _rfdetr(num_classes, shape, head)


def _rfdetr(
    num_classes: int, shape: RFDETRShape, mask_head: PixelMaskHead | None = None
) -> Detector:
    class_loss = IoUAware()
    logits = class_loss.num_logits(num_classes)
    backbone = WindowedDINOv2(
        shape.backbone_dim,
        shape.backbone_heads,
        shape.backbone_ffn_dim,
        shape.patch,
        shape.windows,
        shape.grid,
        shape.outputs,
    )
    encoder = ScaleProjector(
        backbone.channels,
        shape.dim,
        shape.projector_dim,
        shape.projector_blocks,
        shape.projector_eps,
    )
    return RFDETRDetector(
        backbone,
        encoder,
        GroupQueries(shape.num_queries, shape.dim, logits, shape.query_groups),
        steady_decoder(shape, 1, logits),
        class_loss,
        num_classes,
        mask_head,
    )


def steady_decoder(shape: WindowedShape, levels: int, logits: int) -> SteadyDecoder:
    """Return a decoder whose queries sample `levels` levels."""
    layers = [_layer(shape, levels) for _ in range(shape.decoder_layers)]
    return SteadyDecoder(layers, shape.dim, logits)


def _layer(shape: WindowedShape, levels: int) -> DeformableDecoderLayer:
    return DeformableDecoderLayer(
        shape.dim,
        NoBoxRelations(),
        GroupAttention(shape.dim, shape.heads, shape.query_groups),
        ProjectedSampling(shape.dim, shape.cross_heads, [shape.points] * levels),
        FeedForward(shape.dim, shape.ffn_dim, dropout=0.0),
    )


PRESETS = by_name(
    *(rfdetr_n, rfdetr_s, rfdetr_m, rfdetr_l, rfdetr_b),
    *(rfdetr_seg_n, rfdetr_seg_s, rfdetr_seg_m, rfdetr_seg_l),
)
