"""Named models of the DEIMv2 family, one function each."""

from functools import partial

from setmatch.losses.classification import CLASSIFICATION_LOSSES
from setmatch.models.deimv2.config import ATTO, FEMTO, NANO, PICO, DEIMv2Shape
from setmatch.models.detector import Detector
from setmatch.models.dfine.model import DFineDetector
from setmatch.models.dfine.presets import hgnetv2, pyramid_encoder, to_memory
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import Attention, RMSNorm, SwiGLU
from setmatch.models.layers.attention.value_sampling import ValueSampling
from setmatch.models.layers.decoders.distribution_decoder import (
    DistributionDecoder,
    EdgeQuality,
    Gate,
    GatedDecoderLayer,
    Sum,
)
from setmatch.models.layers.encoders.fusion_blocks import ELANBlock
from setmatch.models.layers.encoders.hybrid_encoder import added
from setmatch.models.layers.encoders.lite_encoder import LiteEncoder
from setmatch.models.layers.heads.heads import ACTIVATIONS, Perceptron
from setmatch.models.layers.queries.denoising import rtdetr_denoising
from setmatch.models.layers.queries.queries import AnchorSelection


def deimv2_atto(num_classes: int, shape: DEIMv2Shape = ATTO) -> Detector:
    """DEIMv2-Atto: three stages of HGNetV2, 0.5 million parameters, images of 320 pixels."""
    return _deimv2(num_classes, shape)


def deimv2_femto(num_classes: int, shape: DEIMv2Shape = FEMTO) -> Detector:
    """DEIMv2-Femto: three stages of HGNetV2-B0, 1 million parameters, images of 416 pixels."""
    return _deimv2(num_classes, shape)


def deimv2_pico(num_classes: int, shape: DEIMv2Shape = PICO) -> Detector:
    """DEIMv2-Pico: the same with another block, 1.5 million parameters, images of 640 pixels."""
    return _deimv2(num_classes, shape)


def deimv2_n(num_classes: int, shape: DEIMv2Shape = NANO) -> Detector:
    """DEIMv2-N: HGNetV2-B0 and the hybrid encoder, 3.6 million parameters."""
    return _deimv2(num_classes, shape)


def _deimv2(num_classes: int, shape: DEIMv2Shape) -> Detector:
    class_loss = CLASSIFICATION_LOSSES[shape.class_loss]()
    logits = class_loss.num_logits(num_classes)
    activation = ACTIVATIONS[shape.activation]
    lite = shape.encoder == "lite"
    return DFineDetector(
        hgnetv2(shape, 1 if lite else len(shape.points)),
        _lite_encoder(shape) if lite else pyramid_encoder(shape, shape.encoder_dim, added),
        AnchorSelection(shape.num_queries, shape.dim, logits, shape.prepares_tokens, activation),
        rtdetr_denoising(
            num_classes, shape.dim, shape.denoising_queries, shape.label_noise, shape.box_noise
        ),
        _decoder(shape, logits),
        class_loss,
    )


def _lite_encoder(shape: DEIMv2Shape) -> LiteEncoder:
    dim = shape.encoder_dim
    fusion = partial(ELANBlock, dim, dim, shape.fusion_dim, shape.fusion_blocks)
    return LiteEncoder(shape.stage_out[-1], dim, fusion(), fusion(), to_memory(shape))


def _decoder(shape: DEIMv2Shape, logits: int) -> DistributionDecoder:
    layers, activation = range(shape.decoder_layers), ACTIVATIONS[shape.activation]
    quality = shape.quality_best, shape.quality_dim, shape.quality_layers, activation

    def position(dim: int) -> Perceptron:
        return Perceptron(4, dim, dim, dim, activation=ACTIVATIONS[shape.position_activation])

    return DistributionDecoder(
        [_layer(shape) for _ in layers],
        [EdgeQuality(*quality) for _ in layers],
        shape.dim,
        logits,
        shape.bins,
        shape.reach,
        shape.per_side,
        edge_heads=1 if shape.shared_edge_head else None,
        activation=activation,
        position=position,
        keeps_position=shape.keeps_position,
    )


def _layer(shape: DEIMv2Shape) -> GatedDecoderLayer:
    return GatedDecoderLayer(
        shape.dim,
        Attention(shape.dim, shape.heads, dropout=0.0),
        ValueSampling(shape.dim, shape.heads, shape.points, shape.offset_scale),
        (Gate if shape.gate else Sum)(shape.dim, RMSNorm),
        SwiGLU(shape.dim, shape.ffn_dim // 2),
        RMSNorm,
    )


PRESETS = by_name(deimv2_atto, deimv2_femto, deimv2_pico, deimv2_n)
