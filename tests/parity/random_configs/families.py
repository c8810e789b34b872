"""Every family by name: how its configs are drawn, its model, and what every layer predicts."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import (
    ConditionalDetrForObjectDetection,
    DabDetrForObjectDetection,
    DeformableDetrForObjectDetection,
    Deimv2ForObjectDetection,
    DFineForObjectDetection,
    LwDetrForObjectDetection,
    RfDetrForInstanceSegmentation,
    RfDetrForObjectDetection,
    RTDetrForObjectDetection,
    RTDetrV2ForObjectDetection,
)

from .. import (
    small_deformable_detr,
    small_dfine,
    small_lwdetr,
    small_placed_detr,
    small_rfdetr,
    small_rtdetr,
)
from ..distinct_scales import give_distinct_scales
from . import hybrid, on_resnet, windowed
from .drawn import DrawnConfig

Size = tuple[int, int]
Layers = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
COMPUTED = ("points_scale", "decoder.up", "decoder.reg_scale")  # by the config


def _nothing(_: Any) -> None:
    pass


def _share_heads(reference: DeformableDetrForObjectDetection) -> None:
    """Give both sets of heads the same weights, as published, and keep points near."""
    for name, parameter in reference.named_parameters():
        if name.endswith("sampling_offsets.weight"):
            parameter.mul_(0.2)
    for name in ("bbox_embed", "class_embed"):
        inner = getattr(reference.model.decoder, name, None)
        if inner is not None:
            inner.load_state_dict(getattr(reference, name).state_dict())


def _keep_boxes_small(reference: Any) -> None:
    """Make the outputs of heads small, which are exponents."""
    heads = reference.model if isinstance(reference, RfDetrForInstanceSegmentation) else reference
    for head in (heads.bbox_embed, *heads.model.enc_out_bbox_embed):
        head.layers[-1].weight.mul_(0.2)
    heads.model.reference_point_embed.weight.mul_(0.2)


def _last_layer(reference: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        out = reference(pixel_values=pixels)
    return out.logits[None], out.pred_boxes[None]


def _of_stride(draw: Random, config: Any) -> Size:
    """Return a size that all levels divide: transformers joins maps of these alone."""
    stages = len(config.backbone_config.hidden_sizes)
    # A lite encoder makes another map.
    unit = 2 ** (stages + 1 + (getattr(config, "encoder_type", "") == "lite"))
    sides = [4, 5, 6] if unit < 16 else [2, 3, 4] if unit < 64 else [1, 2]
    return unit * draw.choice(sides), unit * draw.choice(sides)


def _of_windows(draw: Random, config: Any) -> Size:
    """Return a size that windows divide."""
    backbone = config.backbone_config
    side = getattr(backbone, "num_windows_side", backbone.num_windows)
    unit = backbone.patch_size * side
    blocks = max(2, 6 // side)
    return unit * draw.randrange(blocks, blocks + 3), unit * draw.randrange(blocks, blocks + 3)


def _of_any(draw: Random, config: Any) -> Size:
    least = 129 if getattr(config, "num_feature_levels", 1) >= 4 else 65
    return draw.randrange(least, least + 40), draw.randrange(least, least + 40)


@dataclass(frozen=True)
class RandomFamily:
    """A family of transformers. `calm` keeps random predictions from running away."""

    draw: Callable[[Random], DrawnConfig]
    model: type
    every_layer: Layers
    size: Callable[[Random, Any], Size]
    calm: Callable[[Any], None] = _nothing

    def build(self, drawn: DrawnConfig) -> Any:
        """Return the model in evaluation mode; no two parts have weights of the same scale."""
        torch.manual_seed(0)
        reference = self.model(drawn.config()).eval()
        give_distinct_scales(reference, fixed=COMPUTED)
        with torch.no_grad():
            self.calm(reference)
        return reference


def _hybrid(draw: Callable[[Random], DrawnConfig], model: type, layers: Layers) -> RandomFamily:
    return RandomFamily(draw, model, layers, _of_stride)


def _placed(draw: Callable[[Random], DrawnConfig], model: type) -> RandomFamily:
    return RandomFamily(draw, model, small_placed_detr.every_layer, _of_any)


def _windowed(draw: Callable[[Random], DrawnConfig], model: type, layers: Layers) -> RandomFamily:
    return RandomFamily(draw, model, layers, _of_windows, _keep_boxes_small)


FAMILIES = {
    "dfine": _hybrid(hybrid.draw_dfine, DFineForObjectDetection, small_dfine.every_layer),
    "deimv2": _hybrid(hybrid.draw_deimv2, Deimv2ForObjectDetection, small_dfine.every_layer),
    "rtdetr": _hybrid(hybrid.draw_rtdetr, RTDetrForObjectDetection, small_rtdetr.every_layer),
    "rtdetr_v2": _hybrid(
        hybrid.draw_rtdetr_v2, RTDetrV2ForObjectDetection, small_rtdetr.every_layer
    ),
    "lwdetr": _windowed(windowed.draw_lwdetr, LwDetrForObjectDetection, small_lwdetr.every_layer),
    "rfdetr": _windowed(windowed.draw_rfdetr, RfDetrForObjectDetection, small_rfdetr.every_layer),
    "rfdetr_seg": _windowed(windowed.draw_rfdetr, RfDetrForInstanceSegmentation, _last_layer),
    "conditional": _placed(on_resnet.draw_conditional, ConditionalDetrForObjectDetection),
    "dab": _placed(on_resnet.draw_dab, DabDetrForObjectDetection),
    "deformable": RandomFamily(
        on_resnet.draw_deformable,
        DeformableDetrForObjectDetection,
        small_deformable_detr.every_layer,
        _of_any,
        _share_heads,
    ),
}
