"""Deformable DETR of transformers, with layers cut down and weights of distinct scales."""

from typing import Any

import torch
from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

MODEL = {
    "backbone": "resnet18",
    "d_model": 64,
    "encoder_layers": 2,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "encoder_n_points": 3,
    "decoder_layers": 3,
    "decoder_ffn_dim": 40,
    "decoder_attention_heads": 8,
    "decoder_n_points": 2,
    "num_queries": 20,
    "num_labels": 7,
    "auxiliary_loss": True,
}
TWO_STAGES = {"two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 15}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {"d_model": 96, "decoder_layers": 2, "encoder_layers": 1, "num_feature_levels": 5},
    "single_scale": {"num_feature_levels": 1, "backbone": "resnet34"},
    "single_scale_dc5": {"num_feature_levels": 1, "backbone": "resnet50", "dilation": True},
    "refine": {"with_box_refine": True, "tie_word_embeddings": False},
    "refine_shared": {"with_box_refine": True, "num_feature_levels": 3},
    "two_stage": TWO_STAGES,
    "two_stage_wide": TWO_STAGES | {"d_model": 96, "encoder_layers": 1, "decoder_layers": 2},
    "no_encoder": {"encoder_layers": 0, "with_box_refine": True},
    "own_resnet": {
        "backbone_config": ResNetConfig(
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        )
    },
}


def small_deformable_detr(case: str, **changes: Any) -> DeformableDetrForObjectDetection:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    config = DeformableDetrConfig(**{**MODEL, **CASES[case], **changes})
    reference = DeformableDetrForObjectDetection(config).eval()
    give_distinct_scales(reference)
    with torch.no_grad():  # points stay near, where rounding moves them by little
        for name, parameter in reference.named_parameters():
            if name.endswith("sampling_offsets.weight"):
                parameter.mul_(0.2)
    inner = reference.model.decoder.bbox_embed
    if inner is not None:  # the same heads, as the published code has them
        inner.load_state_dict(reference.bbox_embed.state_dict())
    return reference


def every_layer(
    reference: DeformableDetrForObjectDetection, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers."""
    nothing = {"class_labels": torch.zeros(1, dtype=torch.int64), "boxes": pixels.new_ones(1, 4)}
    with torch.no_grad():
        out = reference(pixel_values=pixels, labels=[nothing] * len(pixels))
    layers = [*out.auxiliary_outputs, {"logits": out.logits, "pred_boxes": out.pred_boxes}]
    return (
        torch.stack([layer["logits"] for layer in layers]),
        torch.stack([layer["pred_boxes"] for layer in layers]),
    )
