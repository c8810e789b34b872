"""Tensor names of Conditional DETR in its published layouts, and those that DAB-DETR shares."""

from setmatch.models.weights.layouts.hybrid_keys import box_step
from setmatch.models.weights.layouts.key_map import (
    Table,
    below,
    packed_attention,
    resnet_table,
    split_attention,
)

INPUTS = {
    "self_inputs.query": "sa_qcontent_proj",
    "self_inputs.query_position": "sa_qpos_proj",
    "self_inputs.key": "sa_kcontent_proj",
    "self_inputs.key_position": "sa_kpos_proj",
    "self_inputs.value": "sa_v_proj",
    "cross_inputs.query": "ca_qcontent_proj",
    "cross_inputs.query_position": "ca_qpos_proj",
    "cross_inputs.key": "ca_kcontent_proj",
    "cross_inputs.key_position": "ca_kpos_proj",
    "cross_inputs.value": "ca_v_proj",
    "cross_inputs.place": "ca_qpos_sine_proj",
}


def parts(**names: str) -> Table:
    """Pair modules by name; two underscores stand for a dot."""
    pairs = ((ours.replace("__", "."), theirs) for ours, theirs in names.items())
    return tuple((f"{ours}.{{leaf}}", f"{theirs}.{{leaf}}") for ours, theirs in pairs)


def inputs(names: dict[str, str]) -> Table:
    """Pair the projections of a decoder layer."""
    return tuple((f"{ours}.{{leaf}}", f"{theirs}.{{leaf}}") for ours, theirs in names.items())


def perceptron(ours: str, theirs: str) -> tuple[str, str]:
    """Pair a perceptron with another of linear layers."""
    return f"{ours}.layers.{{j}}.{{leaf}}", f"{theirs}.layers.{{j}}.{{leaf}}"


def original(queries: str, *more: tuple[str, str]) -> Table:
    """Return the names of the authors' code, which is DETR's but for the decoder."""
    return (
        *resnet_table("backbone.0.body."),
        ("embed.projection.{leaf}", "input_proj.{leaf}"),
        *below(
            "encoder.layers.{i}",
            "transformer.encoder.layers.{i}",
            (
                *packed_attention("self_attention", "self_attn"),
                *parts(around_attention__norm="norm1", around_ffn__norm="norm2"),
                *parts(ffn__0="linear1", ffn__1="activation", ffn__3="linear2"),
            ),
        ),
        *below(
            "decoder.layers.{i}",
            "transformer.decoder.layers.{i}",
            (
                *inputs(INPUTS),
                *parts(
                    self_attention__out="self_attn.out_proj",
                    cross_attention__out="cross_attn.out_proj",
                ),
                *parts(
                    around_self__norm="norm1", around_cross__norm="norm2", around_ffn__norm="norm3"
                ),
                *parts(ffn__0="linear1", ffn__1="activation", ffn__3="linear2"),
            ),
        ),
        *parts(decoder__norm="transformer.decoder.norm"),
        perceptron("decoder.scale", "transformer.decoder.query_scale"),
        ("queries.embedding.weight", f"{queries}.weight"),
        *parts(class_head="class_embed"),
        *box_step("decoder.box_step", "bbox_embed"),
        *more,
    )


ORIGINAL: Table = original(
    "query_embed", perceptron("decoder.place", "transformer.decoder.ref_point_head")
)
HUB_ENCODER: Table = (
    *resnet_table("model.backbone.conv_encoder.model."),
    *parts(embed__projection="model.input_projection"),
    *below(
        "encoder.layers.{i}",
        "model.encoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            *parts(
                around_attention__norm="self_attn_layer_norm", around_ffn__norm="final_layer_norm"
            ),
            *parts(ffn__0="fc1", ffn__1="activation_fn", ffn__3="fc2"),
        ),
    ),
    *parts(decoder__norm="model.decoder.layernorm"),
    perceptron("decoder.scale", "model.decoder.query_scale"),
    *box_step("decoder.box_step", "bbox_predictor"),
)
TRANSFORMERS: Table = (
    *HUB_ENCODER,
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *inputs(INPUTS),
            *parts(
                self_attention__out="self_attn.out_proj",
                cross_attention__out="encoder_attn.out_proj",
                around_self__norm="self_attn_layer_norm",
                around_cross__norm="encoder_attn_layer_norm",
                around_ffn__norm="final_layer_norm",
            ),
            *parts(ffn__0="fc1", ffn__3="fc2"),
        ),
    ),
    perceptron("decoder.place", "model.decoder.ref_point_head"),
    ("queries.embedding.weight", "model.query_position_embeddings.weight"),
    *parts(class_head="class_labels_classifier"),
)
