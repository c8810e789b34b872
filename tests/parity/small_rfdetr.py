"""RF-DETR of transformers, with layers cut down and weights of distinct scales."""

import torch
from transformers import RfDetrConfig, RfDetrForInstanceSegmentation, RfDetrForObjectDetection
from transformers.models.rf_detr import modeling_rf_detr
from transformers.utils import logging as transformers_logging

from .distinct_scales import give_distinct_scales

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

BACKBONE = {
    "model_type": "rf_detr_dinov2",
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "mlp_ratio": 2,
    "patch_size": 4,
    "image_size": 48,
    "num_windows": 2,
    "out_features": ["stage1", "stage2", "stage4"],
}
MODEL = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 8,
    "decoder_ffn_dim": 40,
    "decoder_n_points": 2,
    "num_queries": 20,
    "group_detr": 3,
    "num_labels": 7,
    "dropout": 0.0,
    "layer_norm_eps": 1e-6,
}
# The backbone, and the rest.
CASES: dict[str, tuple[dict, dict]] = {
    "n": ({}, {}),
    "m": ({"num_attention_heads": 6}, {"decoder_layers": 4, "num_labels": 91}),
    "b": (  # the last block is not used
        {"num_windows": 4, "out_features": ["stage1", "stage3"], "image_size": 36},
        {"decoder_layers": 3},
    ),
    "other": (
        {"num_windows": 1, "mlp_ratio": 4, "use_mask_token": False},
        {
            "d_model": 48,
            "hidden_expansion": 0.25,
            "c2f_num_blocks": 1,
            "decoder_n_points": 3,
            "decoder_self_attention_heads": 6,
            "decoder_cross_attention_heads": 4,
            "group_detr": 1,
            "layer_norm_eps": 1e-5,
            "num_queries": 9,
        },
    ),
    "more_queries_than_anchors": ({}, {"num_queries": 140}),
}


def small_rfdetr(case: str = "n", **changes) -> RfDetrForObjectDetection:
    """Build one in evaluation mode; swapped parts would show, as no two have the same scale."""
    backbone, model = CASES[case]
    config = RfDetrConfig(backbone_config=BACKBONE | backbone, **MODEL | model | changes)
    reference = RfDetrForObjectDetection(config).eval()
    give_distinct_scales(reference)
    heads = [reference.bbox_embed, *reference.model.enc_out_bbox_embed]
    with torch.no_grad():  # their output is an exponent
        for head in heads:
            head.layers[-1].weight.mul_(0.2)
        reference.model.reference_point_embed.weight.mul_(0.2)
    return reference


def small_rfdetr_with_masks(case: str = "n", **changes) -> RfDetrForInstanceSegmentation:
    """The same with a mask head."""
    config = small_rfdetr(case, **changes).config
    config.intermediate_size = 44
    reference = RfDetrForInstanceSegmentation(config).eval()
    give_distinct_scales(reference)
    boxes = reference.model
    with torch.no_grad():
        for head in (boxes.bbox_embed, *boxes.model.enc_out_bbox_embed):
            head.layers[-1].weight.mul_(0.2)
        boxes.model.reference_point_embed.weight.mul_(0.2)
    return reference


def every_layer(
    reference: RfDetrForObjectDetection, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and boxes of all decoder layers."""
    with torch.no_grad():
        out = reference(pixel_values=pixels)
        return reference.predict_class_and_boxes(
            out.intermediate_hidden_states, out.intermediate_reference_points[-1]
        )


def cut_by_columns(
    self: modeling_rf_detr.RfDetrDinov2Embeddings, tokens: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """Cut the windows of images of any shape: transformers swaps the sides of a window here.

    On squares that makes no difference; the authors' code has it right.
    """
    count = self.config.num_windows
    rows, columns = (side // self.patch_size for side in (height, width))
    grid = tokens[:, 1:].view(len(tokens), rows, columns, -1)
    windows = [
        torch.cat([image[:1], part.flatten(0, 1)])
        for image, patches in zip(tokens, grid)
        for band in patches.chunk(count, dim=0)
        for part in band.chunk(count, dim=1)
    ]
    return torch.stack(windows)
