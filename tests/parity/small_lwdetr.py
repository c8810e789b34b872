"""LW-DETR of transformers, with layers cut down and weights of distinct scales."""

import torch
from transformers import LwDetrConfig, LwDetrForObjectDetection
from transformers.models.lw_detr.modeling_lw_detr import refine_bboxes
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

BACKBONE = {
    "model_type": "lw_detr_vit",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "mlp_ratio": 2,
    "patch_size": 4,
    "image_size": 64,
    "pretrain_image_size": 24,
    "num_windows": 4,
    "window_block_indices": [0, 2],
    "out_indices": [1, 2, 4],
}
MODEL = {
    "d_model": 32,
    "projector_scale_factors": [1.0],
    "decoder_layers": 2,
    "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 8,
    "decoder_ffn_dim": 40,
    "decoder_n_points": 2,
    "num_queries": 20,
    "group_detr": 3,
    "num_labels": 7,
}
# The backbone, and the rest.
CASES: dict[str, tuple[dict, dict]] = {
    "t": ({}, {}),
    "m": (
        {"num_attention_heads": 6, "window_block_indices": [0, 1, 3], "num_windows": 16},
        {"decoder_layers": 3, "num_labels": 91},
    ),
    "l": (
        {"hidden_size": 36, "out_indices": [2, 3]},  # the last block is not used
        {"projector_scale_factors": [2.0, 0.5], "decoder_n_points": 4, "d_model": 48},
    ),
    "x": (  # so wide that maps are narrowed before they are enlarged
        {"hidden_size": 516, "mlp_ratio": 1, "num_hidden_layers": 1, "out_indices": [1]},
        {"projector_scale_factors": [2.0, 1.0, 0.5], "c2f_num_blocks": 1},
    ),
    "other": (
        {"num_windows": 1, "mlp_ratio": 4, "window_block_indices": [], "pretrain_image_size": 64},
        {
            "d_model": 48,
            "hidden_expansion": 0.25,
            "c2f_num_blocks": 1,
            "decoder_n_points": 3,
            "decoder_self_attention_heads": 6,
            "decoder_cross_attention_heads": 4,
            "projector_scale_factors": [0.5, 2.0],
            "group_detr": 1,
            "num_queries": 9,
        },
    ),
}


# The published sizes: of the backbone, and of the rest.
PUBLISHED_BACKBONE = {
    "image_size": 1024,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "patch_size": 16,
    "pretrain_image_size": 224,
    "num_windows": 16,
}
PUBLISHED: dict[str, tuple[dict, dict]] = {
    "t": (
        {
            "hidden_size": 192,
            "num_hidden_layers": 6,
            "window_block_indices": [0, 2, 4],
            "out_indices": [2, 4, 6],
        },
        {"d_model": 256, "num_queries": 100},
    ),
    "l": (
        {
            "hidden_size": 384,
            "num_hidden_layers": 10,
            "window_block_indices": [0, 1, 3, 6, 7, 9],
            "out_indices": [3, 5, 6, 10],
        },
        {
            "d_model": 384,
            "decoder_self_attention_heads": 12,
            "decoder_cross_attention_heads": 24,
            "decoder_n_points": 4,
            "projector_scale_factors": [2.0, 0.5],
        },
    ),
}


def small_lwdetr(case: str = "t", **changes) -> LwDetrForObjectDetection:
    """Build a small one in evaluation mode."""
    backbone, model = CASES[case]
    config = LwDetrConfig(backbone_config=BACKBONE | backbone, **MODEL | model | changes)
    return _with_distinct_scales(config)


def published_lwdetr(size: str) -> LwDetrForObjectDetection:
    """Build one of a published size."""
    backbone, model = PUBLISHED[size]
    model = {"projector_scale_factors": [1.0], "decoder_n_points": 2, "num_labels": 91} | model
    return _with_distinct_scales(
        LwDetrConfig(backbone_config=BACKBONE | PUBLISHED_BACKBONE | backbone, **model)
    )


def _with_distinct_scales(config: LwDetrConfig) -> LwDetrForObjectDetection:
    """Build a model in which swapped parts would show."""
    reference = LwDetrForObjectDetection(config).eval()
    give_distinct_scales(reference)
    heads = [reference.bbox_embed, *reference.model.enc_out_bbox_embed]
    with torch.no_grad():  # their output is an exponent
        for head in heads:
            head.layers[-1].weight.mul_(0.2)
        reference.model.reference_point_embed.weight.mul_(0.2)
    return reference


def every_layer(
    reference: LwDetrForObjectDetection, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers."""
    with torch.no_grad():
        out = reference(pixel_values=pixels)
        decoded = out.intermediate_hidden_states
        boxes = refine_bboxes(out.intermediate_reference_points[-1], reference.bbox_embed(decoded))
        return reference.class_embed(decoded), boxes
