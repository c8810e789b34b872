"""Conditional DETR and DAB-DETR of transformers, with layers cut down and distinct weights."""

from typing import Any

import torch
from torch import nn
from transformers import (
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DabDetrConfig,
    DabDetrForObjectDetection,
)
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

MODEL = {
    "backbone": "resnet18",
    "encoder_layers": 2,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 40,
    "decoder_attention_heads": 8,
    "num_queries": 12,
    "num_labels": 7,
    "dropout": 0.0,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "conditional": ("conditional", {"d_model": 32}),
    "conditional_wide": ("conditional", {"d_model": 48, "encoder_layers": 0, "decoder_layers": 1}),
    "conditional_dc5": (
        "conditional",
        {"d_model": 32, "backbone": "resnet50", "dilation": True, "encoder_layers": 1},
    ),
    "dab": ("dab", {"hidden_size": 32}),
    "dab_patterns": ("dab", {"hidden_size": 32, "num_patterns": 3}),
    "dab_wide": ("dab", {"hidden_size": 64, "encoder_layers": 1, "decoder_layers": 2}),
}
Model = ConditionalDetrForObjectDetection | DabDetrForObjectDetection


def small_placed_detr(case: str, **changes: Any) -> Model:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    kind, settings = CASES[case]
    settings = {**MODEL, **settings, **changes}
    torch.manual_seed(0)
    if kind == "dab":
        reference = DabDetrForObjectDetection(DabDetrConfig(**settings)).eval()
    else:
        reference = ConditionalDetrForObjectDetection(ConditionalDetrConfig(**settings)).eval()
    give_distinct_scales(reference)
    return reference


def every_layer(reference: Model, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers.

    With auxiliary losses, transformers would normalize what the next layer gets; therefore the
    heads read every layer's output here, as they read the last one's in its code.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(pixels.dtype)  # which DAB-DETR has for its empty queries
    with torch.no_grad():
        logits, boxes, out = read_every_layer(reference, pixels)
    torch.set_default_dtype(default)
    assert torch.allclose(logits[-1], out.logits, atol=1e-5)
    assert torch.allclose(boxes[-1], out.pred_boxes, atol=1e-6)
    return logits, boxes


def read_every_layer(
    reference: Model, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return logits and boxes of all layers, with gradients, and transformers' own output."""
    found: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    hooks = [layer.register_forward_hook(keep) for layer in reference.model.decoder.layers]
    inner = reference.model(pixels)
    for hook in hooks:
        hook.remove()
    decoded = reference.model.decoder.layernorm(torch.stack(found))
    reference_points = inner.reference_points
    if isinstance(reference, DabDetrForObjectDetection):
        logits, steps = reference.class_embed(decoded), reference.bbox_predictor(decoded)
        boxes = (steps + torch.logit(reference_points, eps=1e-5)).sigmoid()
    else:
        logits = reference.class_labels_classifier(decoded)
        steps = reference.bbox_predictor(decoded)
        place = torch.logit(reference_points, eps=1e-5).transpose(0, 1)
        boxes = torch.cat([steps[..., :2] + place, steps[..., 2:]], dim=-1).sigmoid()
    with torch.no_grad():
        return logits, boxes, reference(pixels)
