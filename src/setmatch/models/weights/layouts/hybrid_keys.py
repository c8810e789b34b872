"""Tensor names that RT-DETR and D-FINE share, in their authors' code and in transformers."""

from setmatch.models.weights.layouts.key_map import (
    Table,
    below,
    conv_and_norm,
    packed_attention,
    sampling,
    split_attention,
)


def conv(ours: str, theirs: str) -> Table:
    """Pair a convolution and its norm with those that are called `conv` and `norm`."""
    return conv_and_norm(ours, f"{theirs}.conv", f"{theirs}.norm")


def numbered_conv(ours: str, theirs: str) -> Table:
    """Pair a convolution and its norm with those that are numbered 0 and 1."""
    return conv_and_norm(ours, f"{theirs}.0", f"{theirs}.1")


def csp_block(ours: str, theirs: str) -> Table:
    """Return the rows of a CSP block of RepVGG blocks."""
    return (
        *conv(f"{ours}.main", f"{theirs}.conv1"),
        *conv(f"{ours}.around", f"{theirs}.conv2"),
        *conv(f"{ours}.blocks.{{k}}.wide", f"{theirs}.bottlenecks.{{k}}.conv1"),
        *conv(f"{ours}.blocks.{{k}}.pointwise", f"{theirs}.bottlenecks.{{k}}.conv2"),
    )


def box_step(ours: str, theirs: str) -> Table:
    """Return the rows of a head that corrects boxes."""
    steps = enumerate(("first", "second", "last"))
    return tuple((f"{ours}.{a}.{{leaf}}", f"{theirs}.layers.{b}.{{leaf}}") for b, a in steps)


# Without the backbone, the projections before the encoder, the fusion and the box heads.
ORIGINAL: Table = (
    *below(
        "encoder.layers.{i}",
        "encoder.encoder.0.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            ("around_attention.norm.{leaf}", "norm1.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm2.{leaf}"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    *conv("encoder.to_memory.{i}", "decoder.input_proj.{i}"),
    ("queries.class_head.{leaf}", "decoder.enc_score_head.{leaf}"),
    *box_step("queries.box_step", "decoder.enc_bbox_head"),
    ("denoising.embedding.weight", "decoder.denoising_class_embed.weight"),
    *below(
        "decoder.layers.{i}",
        "decoder.decoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "norm1.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm3.{leaf}"),
            *sampling("cross_attention", "cross_attn"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    ("decoder.class_heads.{i}.{leaf}", "decoder.dec_score_head.{i}.{leaf}"),
    ("decoder.position.layers.{i}.{leaf}", "decoder.query_pos_head.layers.{i}.{leaf}"),
)
NAMED_PREPARATION: Table = (  # of tokens before their heads; RT-DETR's first code numbers it
    ("queries.prepare.0.{leaf}", "decoder.enc_output.proj.{leaf}"),
    ("queries.prepare.1.{leaf}", "decoder.enc_output.norm.{leaf}"),
)

TRANSFORMERS: Table = (
    *numbered_conv("encoder.project.{i}", "model.encoder_input_proj.{i}"),
    *below(
        "encoder.layers.{i}",
        "model.encoder.encoder.0.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            ("around_attention.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "final_layer_norm.{leaf}"),
            ("ffn.0.{leaf}", "fc1.{leaf}"),
            ("ffn.3.{leaf}", "fc2.{leaf}"),
        ),
    ),
    *numbered_conv("encoder.to_memory.{i}", "model.decoder_input_proj.{i}"),
    ("queries.prepare.0.{leaf}", "model.enc_output.0.{leaf}"),
    ("queries.prepare.1.{leaf}", "model.enc_output.1.{leaf}"),
    ("queries.class_head.{leaf}", "model.enc_score_head.{leaf}"),
    *box_step("queries.box_step", "model.enc_bbox_head"),
    ("denoising.embedding.weight", "model.denoising_class_embed.weight"),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "final_layer_norm.{leaf}"),
            *sampling("cross_attention", "encoder_attn"),
            ("ffn.0.{leaf}", "fc1.{leaf}"),
            ("ffn.3.{leaf}", "fc2.{leaf}"),
        ),
    ),
    ("decoder.class_heads.{i}.{leaf}", "model.decoder.class_embed.{i}.{leaf}"),
    ("decoder.position.layers.{i}.{leaf}", "model.decoder.query_pos_head.layers.{i}.{leaf}"),
)
