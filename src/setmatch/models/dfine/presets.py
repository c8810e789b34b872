"""Named models of the D-FINE family, one function each."""

from functools import partial

from torch import nn

from setmatch.losses.classification import CLASSIFICATION_LOSSES
from setmatch.models.backbones.folding import ConvNorm
from setmatch.models.backbones.hgnetv2 import HGNetV2, Stage
from setmatch.models.detector import Detector
from setmatch.models.dfine.config import EXTRA_LARGE, LARGE, MEDIUM, NANO, SMALL, DFineShape
from setmatch.models.dfine.model import DFineDetector
from setmatch.models.family import by_name
from setmatch.models.layers.attention.attention import Attention, FeedForward, PostNorm
from setmatch.models.layers.attention.position_encoding import GridPosition
from setmatch.models.layers.attention.value_sampling import ValueSampling
from setmatch.models.layers.decoders.deformable_decoder import BoxPosition
from setmatch.models.layers.decoders.distribution_decoder import (
    DistributionDecoder,
    EdgeQuality,
    Gate,
    GatedDecoderLayer,
)
from setmatch.models.layers.encoders.fusion_blocks import ELANBlock, ShrinkBlock
from setmatch.models.layers.encoders.hybrid_encoder import Fuse, PyramidEncoder, concatenated
from setmatch.models.layers.encoders.transformer_encoder import EncoderLayer
from setmatch.models.layers.heads.heads import ACTIVATIONS
from setmatch.models.layers.queries.denoising import rtdetr_denoising
from setmatch.models.layers.queries.queries import AnchorSelection

LAYERS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


def dfine_n(num_classes: int, shape: DFineShape = NANO) -> Detector:
    """D-FINE-N: two levels, 3.8 million parameters."""
    return _dfine(num_classes, shape)


def dfine_s(num_classes: int, shape: DFineShape = SMALL) -> Detector:
    """D-FINE-S: HGNetV2-B0, three decoder layers."""
    return _dfine(num_classes, shape)


def dfine_m(num_classes: int, shape: DFineShape = MEDIUM) -> Detector:
    """D-FINE-M: HGNetV2-B2, four decoder layers."""
    return _dfine(num_classes, shape)


def dfine_l(num_classes: int, shape: DFineShape = LARGE) -> Detector:
    """D-FINE-L: HGNetV2-B4, six decoder layers."""
    return _dfine(num_classes, shape)


def dfine_x(num_classes: int, shape: DFineShape = EXTRA_LARGE) -> Detector:
    """D-FINE-X: HGNetV2-B5, a wider encoder."""
    return _dfine(num_classes, shape)


def _dfine(num_classes: int, shape: DFineShape) -> Detector:
    class_loss = CLASSIFICATION_LOSSES[shape.class_loss]()
    logits = class_loss.num_logits(num_classes)
    return DFineDetector(
        hgnetv2(shape, len(shape.points)),
        _encoder(shape),
        AnchorSelection(
            shape.num_queries, shape.dim, logits, activation=ACTIVATIONS[shape.activation]
        ),
        rtdetr_denoising(
            num_classes, shape.dim, shape.denoising_queries, shape.label_noise, shape.box_noise
        ),
        _decoder(shape, logits),
        class_loss,
    )


def hgnetv2(shape: DFineShape, levels: int) -> HGNetV2:
    """Return the backbone of a shape, with the maps of its last `levels` stages."""
    inner, out = shape.stem
    stages = [
        Stage(width, stage_out, blocks, layers, kernel, bool(light), halves=index > 0)
        for index, (width, stage_out, blocks, layers, kernel, light) in enumerate(
            zip(
                shape.stage_inner,
                shape.stage_out,
                shape.stage_blocks,
                shape.stage_layers,
                shape.stage_kernels,
                shape.stage_light,
                strict=True,
            )
        )
    ]
    return HGNetV2((inner, out), stages, levels, shape.affine, shape.frozen_norms)


def _encoder(shape: DFineShape) -> PyramidEncoder:
    return pyramid_encoder(shape, 2 * shape.encoder_dim, concatenated)


def pyramid_encoder(shape: DFineShape, fused_dim: int, fuse: Fuse) -> PyramidEncoder:
    """Return the encoder of a shape; `fuse` makes maps of `fused_dim` channels of two maps."""
    dim = shape.encoder_dim
    steps = range(len(shape.points) - 1)

    def fusion() -> list[ELANBlock]:
        return [ELANBlock(fused_dim, dim, shape.fusion_dim, shape.fusion_blocks) for _ in steps]

    return PyramidEncoder(
        project=[ConvNorm(width, dim, kernel=1) for width in shape.stage_out[-len(shape.points) :]],
        position=GridPosition(dim),
        layers=[
            EncoderLayer(
                dim, shape.encoder_heads, shape.encoder_ffn_dim, 0.0, PostNorm, activation=nn.GELU
            )
            for _ in range(shape.encoder_layers)
        ],
        lateral=[ConvNorm(dim, dim, kernel=1) for _ in steps],
        down=fusion(),
        shrink=[ShrinkBlock(dim) for _ in steps],
        up=fusion(),
        to_memory=to_memory(shape),
        fuse=fuse,
    )


def to_memory(shape: DFineShape) -> list[ConvNorm]:
    """Return what brings each level to the width of the decoder; nothing if it has that."""
    if shape.encoder_dim == shape.dim:
        return []
    return [ConvNorm(shape.encoder_dim, shape.dim, kernel=1) for _ in shape.points]


def _decoder(shape: DFineShape, logits: int) -> DistributionDecoder:
    layers, activation = range(shape.decoder_layers), ACTIVATIONS[shape.activation]
    quality = shape.quality_best, shape.quality_dim, shape.quality_layers, activation
    return DistributionDecoder(
        [
            GatedDecoderLayer(
                shape.dim,
                Attention(shape.dim, shape.heads, dropout=0.0),
                ValueSampling(shape.dim, shape.heads, shape.points, shape.offset_scale),
                Gate(shape.dim),
                FeedForward(shape.dim, shape.ffn_dim, 0.0, LAYERS[shape.activation]),
            )
            for _ in layers
        ],
        [EdgeQuality(*quality) for _ in layers],
        shape.dim,
        logits,
        shape.bins,
        shape.reach,
        shape.per_side,
        activation=activation,
        position=partial(BoxPosition, activation=activation),
    )


PRESETS = by_name(dfine_n, dfine_s, dfine_m, dfine_l, dfine_x)
