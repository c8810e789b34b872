"""Tensor names of DETR in its published layouts: the authors' code, its demo and transformers."""

import re

from setmatch.models.weights.layouts.key_map import (
    State,
    Table,
    below,
    packed_attention,
    resnet_table,
    split_attention,
)
from setmatch.models.weights.layouts.resnet_folder import hub_name

TORCH_TRANSFORMER: Table = (
    *below(
        "encoder.layers.{i}",
        "transformer.encoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            ("around_attention.norm.{leaf}", "norm1.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm2.{leaf}"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    ("encoder.norm.{leaf}", "transformer.encoder.norm.{leaf}"),
    *below(
        "decoder.layers.{i}",
        "transformer.decoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            *packed_attention("cross_attention", "multihead_attn"),
            ("around_self.norm.{leaf}", "norm1.{leaf}"),
            ("around_cross.norm.{leaf}", "norm2.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm3.{leaf}"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    ("decoder.norm.{leaf}", "transformer.decoder.norm.{leaf}"),
)

MASK_HEAD: Table = (
    ("mask_head.attention.query.{leaf}", "bbox_attention.q_linear.{leaf}"),
    ("mask_head.attention.key.{leaf}", "bbox_attention.k_linear.{leaf}"),
    *((f"mask_head.layers.{i}.conv.{{leaf}}", f"mask_head.lay{i + 1}.{{leaf}}") for i in range(5)),
    *((f"mask_head.layers.{i}.norm.{{leaf}}", f"mask_head.gn{i + 1}.{{leaf}}") for i in range(5)),
    *((f"mask_head.adapters.{i}.{{leaf}}", f"mask_head.adapter{i + 1}.{{leaf}}") for i in range(3)),
    ("mask_head.out.{leaf}", "mask_head.out_lay.{leaf}"),
)


def _with_masks(detector: Table) -> Table:
    """Return the table of a model with masks: both layouts put the detector below `detr`."""
    return (*((ours, f"detr.{theirs}") for ours, theirs in detector), *MASK_HEAD)


ORIGINAL: Table = (
    *resnet_table("backbone.0.body."),
    ("embed.position.rows.weight", "backbone.1.row_embed.weight"),
    ("embed.position.columns.weight", "backbone.1.col_embed.weight"),
    ("embed.projection.{leaf}", "input_proj.{leaf}"),
    *TORCH_TRANSFORMER,
    ("queries.embedding.weight", "query_embed.weight"),
    ("class_head.{leaf}", "class_embed.{leaf}"),
    ("box_head.layers.{i}.{leaf}", "bbox_embed.layers.{i}.{leaf}"),
)

ORIGINAL_PANOPTIC: Table = _with_masks(ORIGINAL)

DEMO: Table = (
    *resnet_table("backbone."),
    ("embed.position.rows.weight", "row_embed"),
    ("embed.position.columns.weight", "col_embed"),
    ("embed.projection.{leaf}", "conv.{leaf}"),
    *TORCH_TRANSFORMER,
    ("queries.embedding.weight", "query_pos"),
    ("class_head.{leaf}", "linear_class.{leaf}"),
    ("box_head.layers.0.{leaf}", "linear_bbox.{leaf}"),
)


TRANSFORMERS: Table = (
    *resnet_table("model.backbone.conv_encoder.model."),
    ("embed.position.rows.weight", "model.position_embedding.row_embeddings.weight"),
    ("embed.position.columns.weight", "model.position_embedding.column_embeddings.weight"),
    ("embed.projection.{leaf}", "model.input_projection.{leaf}"),
    *below(
        "encoder.layers.{i}",
        "model.encoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            ("around_attention.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "final_layer_norm.{leaf}"),
            ("ffn.0.{leaf}", "fc1.{leaf}"),
            ("ffn.3.{leaf}", "fc2.{leaf}"),
        ),
    ),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            *split_attention("cross_attention", "encoder_attn"),
            ("around_self.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_cross.norm.{leaf}", "encoder_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "final_layer_norm.{leaf}"),
            ("ffn.0.{leaf}", "fc1.{leaf}"),
            ("ffn.3.{leaf}", "fc2.{leaf}"),
        ),
    ),
    ("decoder.norm.{leaf}", "model.decoder.layernorm.{leaf}"),
    ("queries.embedding.weight", "model.query_position_embeddings.weight"),
    ("class_head.{leaf}", "class_labels_classifier.{leaf}"),
    ("box_head.layers.{i}.{leaf}", "bbox_predictor.layers.{i}.{leaf}"),
)

TRANSFORMERS_PANOPTIC: Table = _with_masks(TRANSFORMERS)

# Other names of the tensors of a mask head: in memory since transformers 5.
TRANSFORMERS_VARIANTS = (
    (r"^bbox_attention\.(q|k)_proj\.", r"bbox_attention.\1_linear."),
    (r"^mask_head\.output_conv\.", "mask_head.out_lay."),
)
FUSION = re.compile(r"^mask_head\.fpn_stages\.(\d)\.(fpn_adapter|refine\.conv|refine\.norm)\.")
MIXING = re.compile(r"^mask_head\.conv(\d)\.(conv|norm)\.")


def has_masks(state: State) -> bool:
    """Return True if tensors in our names include a mask head."""
    return "mask_head.out.weight" in state


def with_masks(preset: str, state: State) -> str:
    """Return the name of the preset with a mask head if `state` has one."""
    return f"{preset}_panoptic" if has_masks(state) else preset


def normalize_keys(state: State) -> State:
    """Rename all variants that transformers has used for DETR's tensors to those on the hub."""
    normalized = {}
    for variant, value in state.items():
        key = hub_name(MIXING.sub(_mixing, FUSION.sub(_fusion, variant)))
        for pattern, name in TRANSFORMERS_VARIANTS:
            key = re.sub(pattern, name, key)
        normalized[key] = value
    return normalized


def _mixing(match: re.Match[str]) -> str:
    return f"mask_head.{'lay' if match[2] == 'conv' else 'gn'}{match[1]}."


def _fusion(match: re.Match[str]) -> str:
    stage = int(match[1])
    if match[2] == "fpn_adapter":
        return f"mask_head.adapter{stage + 1}."
    return f"mask_head.{'lay' if match[2] == 'refine.conv' else 'gn'}{stage + 3}."
