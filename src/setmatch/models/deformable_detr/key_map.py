"""Tensor names of Deformable DETR in its published layouts: the authors' code and transformers."""

import re

from setmatch.models.weights.layouts.hybrid_keys import box_step
from setmatch.models.weights.layouts.key_map import (
    Table,
    below,
    packed_attention,
    projected_sampling,
    resnet_table,
    split_attention,
)

# The heads of every layer, which both codes may store twice: beside the decoder and inside.
HEAD = re.compile(
    r"(?P<inside>(?:model|transformer)\.decoder\.)?(?P<kind>class|bbox)_embed\.(?P<layer>\d+)\."
)


def _ffn(first: str, second: str) -> Table:
    return (("ffn.0.{leaf}", f"{first}.{{leaf}}"), ("ffn.3.{leaf}", f"{second}.{{leaf}}"))


def _norm(ours: str, theirs: str) -> tuple[str, str]:
    return f"{ours}.norm.{{leaf}}", f"{theirs}.{{leaf}}"


def _transformer(prefix: str, queries: str) -> Table:
    return (
        ("encoder.level", f"{prefix}.level_embed"),
        ("queries.embedding.weight", f"{queries}.weight"),
        ("queries.place.{leaf}", f"{prefix}.reference_points.{{leaf}}"),
        ("queries.prepare.0.{leaf}", f"{prefix}.enc_output.{{leaf}}"),
        ("queries.prepare.1.{leaf}", f"{prefix}.enc_output_norm.{{leaf}}"),
        ("queries.expand.0.{leaf}", f"{prefix}.pos_trans.{{leaf}}"),
        ("queries.expand.1.{leaf}", f"{prefix}.pos_trans_norm.{{leaf}}"),
    )


# With a head for each layer; what is left of them after the last layer belongs to the encoder.
HEADS: Table = (
    ("decoder.class_heads.{i}.{leaf}", "class_embed.{i}.{leaf}"),
    *box_step("decoder.box_steps.{i}", "bbox_embed.{i}"),
)
ORIGINAL: Table = (
    *resnet_table("backbone.0.body."),
    ("encoder.project.{i}.{j}.{leaf}", "input_proj.{i}.{j}.{leaf}"),
    *_transformer("transformer", "query_embed"),
    *below(
        "encoder.sampling_layers.{i}",
        "transformer.encoder.layers.{i}",
        (
            *projected_sampling("sampling", "self_attn"),
            _norm("around_sampling", "norm1"),
            _norm("around_ffn", "norm2"),
            *_ffn("linear1", "linear2"),
        ),
    ),
    *below(
        "decoder.layers.{i}",
        "transformer.decoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            *projected_sampling("cross_attention", "cross_attn"),
            _norm("around_cross", "norm1"),
            _norm("around_self", "norm2"),
            _norm("around_ffn", "norm3"),
            *_ffn("linear1", "linear2"),
        ),
    ),
    *HEADS,
)
TRANSFORMERS: Table = (
    *resnet_table("model.backbone.conv_encoder.model."),
    ("encoder.project.{i}.{j}.{leaf}", "model.input_proj.{i}.{j}.{leaf}"),
    *_transformer("model", "model.query_position_embeddings"),
    *below(
        "encoder.sampling_layers.{i}",
        "model.encoder.layers.{i}",
        (
            *projected_sampling("sampling", "self_attn"),
            _norm("around_sampling", "self_attn_layer_norm"),
            _norm("around_ffn", "final_layer_norm"),
            *_ffn("fc1", "fc2"),
        ),
    ),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            *projected_sampling("cross_attention", "encoder_attn"),
            _norm("around_self", "self_attn_layer_norm"),
            _norm("around_cross", "encoder_attn_layer_norm"),
            _norm("around_ffn", "final_layer_norm"),
            *_ffn("fc1", "fc2"),
        ),
    ),
    *HEADS,
)
