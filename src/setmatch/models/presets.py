"""Named models: a function each, composed from parts; MODELS lists them, BASELINES the peers."""

import dataclasses
import difflib
import inspect
from collections.abc import Callable

from torch import nn

from setmatch.errors import ConfigError
from setmatch.losses.classification import Softmax, Varifocal
from setmatch.models.ablated import FFNS, POSITIONS
from setmatch.models.attention import PostNorm, PreNorm, Residual
from setmatch.models.backbone import STAGES, Backbone, frozen_resnet, live_resnet
from setmatch.models.baselines import BASELINES
from setmatch.models.decoder import Decoder, DecoderLayer, LastLayerDecoder
from setmatch.models.denoising import Denoising
from setmatch.models.detector import (
    Detector,
    GlobalDetector,
    MultiScaleDetector,
    PretrainedMultiScaleDetector,
    ScratchDetector,
)
from setmatch.models.encoder import Encoder, EncoderLayer
from setmatch.models.heads import BoxHead
from setmatch.models.hybrid import HybridEncoder
from setmatch.models.masks import AttentionMaskHead
from setmatch.models.pixel_masks import PixelMaskHead
from setmatch.models.position import LearnedPosition, PositionAtInput
from setmatch.models.queries import LearnedContent, TopKQueries
from setmatch.models.refine import DeformableDecoderLayer, RefiningDecoder
from setmatch.models.shapes import (
    NANO,
    SMALLEST,
    TINY,
    DetrShape,
    MultiScaleShape,
    TimmShape,
    TransformerShape,
    fitted,
)
from setmatch.models.timm_trunk import TimmTrunk
from setmatch.models.trunk import NanoTrunk, SmallTrunk
from setmatch.structures.metadata import Card

RESIDUALS: dict[str, Residual] = {"post": PostNorm, "pre": PreNorm}
LEVELS = ("layer2", "layer3", "layer4")  # strides 8, 16 and 32
NARROW = (32, 64, 128, 128)  # channels of the trunk of setmatch_n, at strides 4, 8, 16 and 32


def detr_r50(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50."""
    return _detr(frozen_resnet("resnet50"), num_classes, shape)


def detr_r50_dc5(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 whose last stage is dilated: twice the resolution, for small objects."""
    return _detr(frozen_resnet("resnet50", dilate_last=True), num_classes, shape)


def detr_r101(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101."""
    return _detr(frozen_resnet("resnet101"), num_classes, shape)


def detr_r101_dc5(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101 whose last stage is dilated."""
    return _detr(frozen_resnet("resnet101", dilate_last=True), num_classes, shape)


def detr_r50_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 with a mask for every query."""
    return _panoptic(frozen_resnet("resnet50", stages=STAGES), num_classes, shape)


def detr_r50_dc5_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-50 whose last stage is dilated, with a mask for every query."""
    backbone = frozen_resnet("resnet50", dilate_last=True, stages=STAGES)
    return _panoptic(backbone, num_classes, shape)


def detr_r101_panoptic(num_classes: int, shape: DetrShape = DetrShape()) -> Detector:
    """DETR on ResNet-101 with a mask for every query."""
    return _panoptic(frozen_resnet("resnet101", stages=STAGES), num_classes, shape)


def detr_r18_tiny(num_classes: int, shape: DetrShape = TINY) -> Detector:
    """The published method made small, on a ResNet-18 whose norms are trained too."""
    return _detr(live_resnet("resnet18"), num_classes, shape)


def detr_r18_tiny_panoptic(num_classes: int, shape: DetrShape = TINY) -> Detector:
    """The published method made small, with a mask for every query."""
    return _panoptic(live_resnet("resnet18", stages=STAGES), num_classes, shape)


def detr_nano(num_classes: int, shape: DetrShape = SMALLEST) -> Detector:
    """The published method for pictures of 64 to 100 pixels, on a trunk of its own."""
    return _detr(NanoTrunk((16, 32, 64)), num_classes, shape, composition=ScratchDetector)


def detr_demo(num_classes: int, shape: TransformerShape = TransformerShape()) -> Detector:
    """The 50-line model of the paper: positions at the input, one linear box head."""
    backbone = frozen_resnet("resnet50")
    scoring = Softmax()
    return GlobalDetector(
        backbone,
        PositionAtInput(
            backbone.channels[-1], shape.dim, LearnedPosition(shape.dim), feature_scale=0.1
        ),
        Encoder(_encoder_layers(shape, PostNorm), nn.LayerNorm(shape.dim)),
        LearnedContent(shape.num_queries, shape.dim),
        LastLayerDecoder(_decoder_layers(shape, PostNorm), shape.dim),
        nn.Linear(shape.dim, scoring.num_logits(num_classes)),
        BoxHead(shape.dim, 4),
        scoring,
        shape.num_queries,
    )


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


Preset = Callable[..., Detector]  # (num_classes, shape), shape a frozen dataclass with defaults
MODELS: dict[str, Preset] = {
    "detr_r50": detr_r50,
    "detr_r50_dc5": detr_r50_dc5,
    "detr_r101": detr_r101,
    "detr_r101_dc5": detr_r101_dc5,
    "detr_r50_panoptic": detr_r50_panoptic,
    "detr_r50_dc5_panoptic": detr_r50_dc5_panoptic,
    "detr_r101_panoptic": detr_r101_panoptic,
    "detr_r18_tiny": detr_r18_tiny,
    "detr_r18_tiny_panoptic": detr_r18_tiny_panoptic,
    "detr_nano": detr_nano,
    "detr_demo": detr_demo,
    "setmatch_n": setmatch_n,
    "setmatch_s": setmatch_s,
    "setmatch_m": setmatch_m,
    "setmatch_timm": setmatch_timm,
    "setmatch_n_panoptic": setmatch_n_panoptic,
    "setmatch_s_panoptic": setmatch_s_panoptic,
    "setmatch_m_panoptic": setmatch_m_panoptic,
}


def build(card: Card) -> Detector:
    """Build the model that `card` describes, with random weights, in training mode.

    Raises ConfigError for a preset or argument that does not exist, with the nearest that does.
    """
    preset = find_preset(card.preset)
    shape = fitted(inspect.signature(preset).parameters["shape"].default, card)
    detector = preset(len(card.categories), shape)
    detector.card = dataclasses.replace(card, arguments=dataclasses.asdict(shape))
    return detector


def find_preset(name: str) -> Preset:
    """Return the preset called `name`; raises ConfigError with the nearest name there is."""
    known = {**MODELS, **BASELINES}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"model {name}: no such model; {hint}")
    return known[name]


def box_preset(name: str) -> str:
    """Return the name of the same model without its mask head; `name` itself if it has none."""
    return name.removesuffix("_panoptic")


def _panoptic(backbone: Backbone, num_classes: int, shape: DetrShape) -> Detector:
    mask_head = AttentionMaskHead(shape.dim, shape.heads, backbone.channels[:-1])
    return _detr(backbone, num_classes, shape, mask_head)


def _detr(
    backbone: Backbone | NanoTrunk,
    num_classes: int,
    shape: DetrShape,
    mask_head: AttentionMaskHead | None = None,
    composition: type[GlobalDetector] = GlobalDetector,
) -> Detector:
    residual, placing = RESIDUALS[shape.norm], POSITIONS[shape.position]
    scoring = Softmax(shape.no_object_weight)
    trim = FFNS[shape.ffn]
    return composition(
        backbone,
        placing.tokens(backbone.channels[-1], shape.dim),
        placing.encoder(trim(_encoder_layers(shape, residual)), residual.final_norm(shape.dim)),
        placing.queries(shape.num_queries, shape.dim),
        Decoder(trim(_decoder_layers(shape, residual)), shape.dim),
        nn.Linear(shape.dim, scoring.num_logits(num_classes)),
        BoxHead(shape.dim, shape.dim, shape.dim, 4),
        scoring,
        shape.num_queries,
        mask_head,
    )


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


def _encoder_layers(shape: TransformerShape, residual: Residual) -> list[EncoderLayer]:
    return [
        EncoderLayer(shape.dim, shape.heads, shape.ffn_dim, shape.dropout, residual)
        for _ in range(shape.encoder_layers)
    ]


def _decoder_layers(shape: TransformerShape, residual: Residual) -> list[DecoderLayer]:
    return [
        DecoderLayer(shape.dim, shape.heads, shape.ffn_dim, shape.dropout, residual)
        for _ in range(shape.decoder_layers)
    ]
