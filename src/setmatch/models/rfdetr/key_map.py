"""Tensor names of RF-DETR: its authors' code and transformers write the same ones."""

import re

from setmatch.models.weights.layouts.key_map import (
    Table,
    below,
    packed_attention,
    projected_sampling,
)

VIT, PROJECTOR = "backbone.0.encoder.encoder", "backbone.0.projector.stages.0"

CLASS_TOKEN = f"{VIT}.embeddings.cls_token"
SECOND_LEVEL = re.compile(r"backbone\.0\.projector\.stages\.[1-9]")
# Of DINOv2's own training: what stands for a hidden patch.
UNUSED = re.compile(re.escape(f"{VIT}.embeddings.mask_token"))


def _conv(ours: str, theirs: str) -> Table:
    return (
        (f"{ours}.0.weight", f"{theirs}.conv.weight"),
        (f"{ours}.1.{{leaf}}", f"{theirs}.bn.{{leaf}}"),
    )


def perceptron(ours: str, theirs: str) -> tuple[str, str]:
    """Pair a perceptron with another, whose layers are numbered alike."""
    return f"{ours}.layers.{{j}}.{{leaf}}", f"{theirs}.layers.{{j}}.{{leaf}}"


DECODER_NAMES: Table = (  # and of LW-DETR
    ("queries.content", "query_feat.weight"),
    ("queries.places", "refpoint_embed.weight"),
    ("queries.prepare.{i}.0.{leaf}", "transformer.enc_output.{i}.{leaf}"),
    ("queries.prepare.{i}.1.{leaf}", "transformer.enc_output_norm.{i}.{leaf}"),
    ("queries.class_heads.{i}.{leaf}", "transformer.enc_out_class_embed.{i}.{leaf}"),
    perceptron("queries.box_steps.{i}.step", "transformer.enc_out_bbox_embed.{i}"),
    *below(
        "decoder.layers.{i}",
        "transformer.decoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "norm1.{leaf}"),
            ("around_cross.norm.{leaf}", "norm2.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm3.{leaf}"),
            *projected_sampling("cross_attention", "cross_attn"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    ("decoder.norm.{leaf}", "transformer.decoder.norm.{leaf}"),
    perceptron("decoder.position", "transformer.decoder.ref_point_head"),
    ("decoder.class_head.{leaf}", "class_embed.{leaf}"),
    perceptron("decoder.box_step.step", "bbox_embed"),
)
PUBLISHED_NAMES: Table = (
    *below(
        "backbone",
        VIT,
        (
            ("class_token", "embeddings.cls_token"),
            ("position", "embeddings.position_embeddings"),
            ("embed.{leaf}", "embeddings.patch_embeddings.projection.{leaf}"),
            ("norm.{leaf}", "layernorm.{leaf}"),
        ),
    ),
    *below(
        "backbone.blocks.{i}",
        f"{VIT}.encoder.layer.{{i}}",
        (
            *(
                (f"attention.{name}.{{leaf}}", f"attention.attention.{name}.{{leaf}}")
                for name in ("query", "key", "value")
            ),
            ("attention.out.{leaf}", "attention.output.dense.{leaf}"),
            ("norm_attention.{leaf}", "norm1.{leaf}"),
            ("norm_ffn.{leaf}", "norm2.{leaf}"),
            ("scale_attention", "layer_scale1.lambda1"),
            ("scale_ffn", "layer_scale2.lambda1"),
            ("ffn.0.{leaf}", "mlp.fc1.{leaf}"),
            ("ffn.3.{leaf}", "mlp.fc2.{leaf}"),
        ),
    ),
    *_conv("encoder.split", f"{PROJECTOR}.0.cv1"),
    *_conv("encoder.merge", f"{PROJECTOR}.0.cv2"),
    *_conv("encoder.blocks.{i}.0", f"{PROJECTOR}.0.m.{{i}}.cv1"),
    *_conv("encoder.blocks.{i}.1", f"{PROJECTOR}.0.m.{{i}}.cv2"),
    ("encoder.norm.{leaf}", f"{PROJECTOR}.1.{{leaf}}"),
    *DECODER_NAMES,
    *below(
        "mask_head",
        "segmentation_head",
        (
            ("blocks.{i}.depthwise.{leaf}", "blocks.{i}.dwconv.{leaf}"),
            ("blocks.{i}.norm.{leaf}", "blocks.{i}.norm.{leaf}"),
            ("blocks.{i}.pointwise.{leaf}", "blocks.{i}.pwconv1.{leaf}"),
            ("pixel.{leaf}", "spatial_features_proj.{leaf}"),
            ("norm.{leaf}", "query_features_block.norm_in.{leaf}"),
            ("widen.{leaf}", "query_features_block.layers.0.{leaf}"),
            ("narrow.{leaf}", "query_features_block.layers.2.{leaf}"),
            ("query.{leaf}", "query_features_proj.{leaf}"),
            ("bias", "bias"),
        ),
    ),
)
