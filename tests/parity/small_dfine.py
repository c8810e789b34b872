"""D-FINE of transformers, with layers cut down and weights of distinct scales."""

import torch
from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

BACKBONE = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 12, 16, 20],
    "stage_mid_channels": [8, 6, 8, 10],
    "stage_out_channels": [12, 16, 20, 24],
    "hidden_sizes": [12, 16, 20, 24],
    "embedding_size": 8,
    "stage_num_blocks": [1, 1, 2, 1],
    "stage_numb_of_layers": [2, 2, 1, 2],
    "use_learnable_affine_block": True,
    "out_indices": [2, 3, 4],
}
MODEL = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 20, 24],
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "d_model": 32,
    "decoder_in_channels": [32, 32, 32],
    "decoder_ffn_dim": 40,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "decoder_n_points": [3, 6, 3],
    "num_queries": 20,
    "num_labels": 7,
    "depth_mult": 0.34,
    "hidden_expansion": 0.5,
    "tie_word_embeddings": False,
}
TWO_LEVELS = {
    "encoder_in_channels": [20, 24],
    "decoder_in_channels": [32, 32],
    "num_feature_levels": 2,
    "decoder_n_points": [6, 6],
    "feat_strides": [16, 32],
    "encode_proj_layers": [1],
    "hidden_expansion": 0.34,
    "depth_mult": 0.5,
}
PLAIN = {"use_learnable_affine_block": False}
# The backbone, and the rest.
CASES: dict[str, tuple[dict, dict]] = {
    "n": ({"out_indices": [3, 4]}, TWO_LEVELS),
    "s": ({}, {}),
    "m": ({"stage_numb_of_layers": [3, 3, 3, 3]}, {"decoder_layers": 4, "depth_mult": 0.67}),
    "l": (PLAIN, {"depth_mult": 1.0, "hidden_expansion": 1.0, "decoder_layers": 2}),
    "x": (
        PLAIN | {"stage_num_blocks": [1, 2, 3, 2]},
        {"encoder_hidden_dim": 48, "decoder_in_channels": [48, 48, 48], "reg_scale": 8.0},
    ),
    "other": (
        {"stage_kernel_size": [5, 3, 3, 7], "stage_light_block": [True, False, True, False]},
        {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "decoder_n_points": 4,
            "max_num_bins": 16,
            "up": 0.3,
            "top_prob_values": 3,
            "lqe_hidden_dim": 12,
            "lqe_layers": 3,
            "decoder_offset_scale": 0.7,
            "freeze_backbone_batch_norms": False,
            "tie_word_embeddings": True,
        },
    ),
    "fewest_layers": ({}, {"encoder_layers": 0, "num_denoising": 0, "decoder_layers": 1}),
}


def small_dfine(case: str = "s", **changes) -> DFineForObjectDetection:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    backbone, model = CASES[case]
    config = DFineConfig(
        backbone_config=HGNetV2Config(**BACKBONE | backbone), **MODEL | model | changes
    )
    reference = DFineForObjectDetection(config).eval()
    give_distinct_scales(reference, fixed=("num_points_scale", "decoder.up", "decoder.reg_scale"))
    return reference


def every_layer(
    reference: DFineForObjectDetection, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers, which transformers gives in training alone."""
    reference.model.decoder.training = True
    with torch.no_grad():
        out = reference(pixel_values=pixels)
    reference.model.decoder.training = False
    logits, boxes = out.intermediate_logits, out.intermediate_reference_points
    # The first entry is from before any edge was moved.
    return logits[:, 1:].transpose(0, 1), boxes[:, 1:].transpose(0, 1)
