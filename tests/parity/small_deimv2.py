"""DEIMv2 of transformers, with layers cut down and weights of distinct scales."""

from transformers import Deimv2Config, Deimv2ForObjectDetection, HGNetV2Config
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales
from .small_dfine import BACKBONE, MODEL, TWO_LEVELS

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

LITE = {
    "encoder_type": "lite",
    "encoder_in_channels": [20],
    "decoder_in_channels": [32, 32],
    "num_feature_levels": 2,
    "decoder_n_points": [4, 2],
    "feat_strides": [16],
    "encoder_layers": 0,
    "hidden_expansion": 0.34,
    "depth_mult": 0.5,
    "share_bbox_head": True,
    "use_gateway": False,
}
THREE_STAGES = {
    "stage_in_channels": [8, 12, 16],
    "stage_mid_channels": [8, 6, 8],
    "stage_out_channels": [12, 16, 20],
    "hidden_sizes": [12, 16, 20],
    "depths": [1, 1, 2],
    "stage_num_blocks": [1, 1, 2],
    "stage_numb_of_layers": [2, 2, 1],
    "stage_downsample": [False, True, True],
    "stage_light_block": [False, False, True],
    "stage_kernel_size": [3, 3, 5],
    "stage_downsample_strides": [2, 2, 2],
    "out_indices": [3],
}
# Of the backbone, and of the rest.
CASES: dict[str, tuple[dict, dict]] = {
    "n": ({"out_indices": [3, 4]}, TWO_LEVELS | {"decoder_activation_function": "silu"}),
    "pico": (THREE_STAGES, LITE | {"decoder_activation_function": "silu"}),
    "atto": (
        THREE_STAGES | {"stage_kernel_size": [3, 3, 3], "stage_num_blocks": [1, 1, 1]},
        LITE
        | {
            "decoder_layers": 2,
            "decoder_ffn_dim": 41,  # whose half is 20
            "encoder_layers": 1,  # which a lite encoder has not, whatever the config says
            "freeze_backbone_batch_norms": False,
        },
    ),
    "three_levels": ({}, {"depth_mult": 1.0, "share_bbox_head": True}),
    "other": (
        THREE_STAGES,
        LITE
        | {
            "encoder_hidden_dim": 24,
            "decoder_in_channels": [24, 24],
            "use_gateway": True,
            "share_bbox_head": False,
            "decoder_layers": 2,
            "max_num_bins": 16,
            "up": 0.3,
            "top_prob_values": 3,
            "lqe_hidden_dim": 12,
            "num_denoising": 0,
        },
    ),
}


def small_deimv2(case: str = "n", **changes) -> Deimv2ForObjectDetection:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    backbone, model = CASES[case]
    model = {key: value for key, value in MODEL.items() if key != "tie_word_embeddings"} | model
    config = Deimv2Config(backbone_config=HGNetV2Config(**BACKBONE | backbone), **model | changes)
    reference = Deimv2ForObjectDetection(config).eval()
    give_distinct_scales(reference, fixed=("num_points_scale", "decoder.up", "decoder.reg_scale"))
    return reference
