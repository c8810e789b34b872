"""Tensor names of DAB-DETR in its published layouts: the authors' code and transformers."""

from setmatch.models.conditional_detr.key_map import (
    HUB_ENCODER,
    inputs,
    original,
    parts,
    perceptron,
)
from setmatch.models.weights.layouts.key_map import Table, below

LONG_NAMES = {
    "query": "query_content",
    "query_position": "query_pos",
    "key": "key_content",
    "key_position": "key_pos",
    "value": "value",
    "place": "query_pos_sine",
}

ORIGINAL: Table = original(
    "refpoint_embed",
    ("queries.patterns.weight", "transformer.patterns.weight"),
    perceptron("encoder.scale", "transformer.encoder.query_scale"),
    perceptron("decoder.position", "transformer.decoder.ref_point_head"),
    perceptron("decoder.sides", "transformer.decoder.ref_anchor_head"),
)
TRANSFORMERS: Table = (
    *HUB_ENCODER,
    perceptron("encoder.scale", "model.encoder.query_scale"),
    perceptron("decoder.position", "model.decoder.ref_point_head"),
    perceptron("decoder.sides", "model.decoder.ref_anchor_head"),
    ("queries.embedding.weight", "model.query_refpoint_embeddings.weight"),
    ("queries.patterns.weight", "model.patterns.weight"),
    *parts(class_head="class_embed"),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *(
                row
                for kind in ("self", "cross")
                for row in inputs(
                    {
                        f"{kind}_inputs.{ours}": f"{kind}_attn.{kind}_attn_{theirs}_proj"
                        for ours, theirs in LONG_NAMES.items()
                    }
                )
            ),
            *parts(
                self_attention__out="self_attn.self_attn.output_proj",
                cross_attention__out="cross_attn.cross_attn.output_proj",
                around_self__norm="self_attn.self_attn_layer_norm",
                around_cross__norm="cross_attn.cross_attn_layer_norm",
                around_ffn__norm="mlp.final_layer_norm",
            ),
            *parts(ffn__0="fc1", ffn__1="mlp.activation_fn", ffn__3="fc2"),
        ),
    ),
)
