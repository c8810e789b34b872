"""Tensor names of LW-DETR: those of its authors' code, and those of transformers."""

import re

from setmatch.models.rfdetr.key_map import DECODER_NAMES, perceptron
from setmatch.models.weights.layouts.key_map import (
    State,
    Table,
    below,
    conv_and_norm,
    projected_sampling,
    split_attention,
)

VIT, PROJECTOR = "backbone.0.encoder", "backbone.0.projector"
POSITION = f"{VIT}.pos_embed"
QKV = re.compile(re.escape(VIT) + r"\.blocks\.\d+\.attn\.qkv\.weight")
HUB_VIT, HUB_LEVEL = "model.backbone.backbone", "model.backbone.projector.scale_layers.{i}"
HUB_POSITION = f"{HUB_VIT}.embeddings.position_embeddings"
HUB_VARIANTS = (  # of the same tensors: attentions have other names in memory and in files
    (r"\.self_attn\.o_proj\.", ".self_attn.out_proj."),
    (r"(\.encoder\.layer\.\d+)\.attention\.q_proj\.", r"\1.attention.attention.query."),
    (r"(\.encoder\.layer\.\d+)\.attention\.k_proj\.", r"\1.attention.attention.key."),
    (r"(\.encoder\.layer\.\d+)\.attention\.v_proj\.", r"\1.attention.attention.value."),
    (r"(\.encoder\.layer\.\d+)\.attention\.o_proj\.", r"\1.attention.output."),
)


def _level(conv_norm: str, resize: str, split: str, merge: str, block: str, norm: str) -> Table:
    """Pair a level of the projector; `conv_norm` is what convolutions call their norm."""

    def conv(name: str, theirs: str) -> Table:
        return conv_and_norm(
            f"encoder.levels.{{i}}.{name}", f"{theirs}.conv", f"{theirs}.{conv_norm}"
        )

    return (
        *conv("split", split),
        *conv("merge", merge),
        *conv("blocks.{j}.0", f"{block}1"),
        *conv("blocks.{j}.1", f"{block}2"),
        ("encoder.levels.{i}.norm.{leaf}", f"{norm}.{{leaf}}"),
        *conv("resize.{j}.0.conv", f"{resize}.0"),
        ("encoder.levels.{i}.resize.{j}.{n}.{leaf}", f"{resize}.{{n}}.{{leaf}}"),
    )


ORIGINAL: Table = (
    ("backbone.position", POSITION),
    ("backbone.embed.{leaf}", f"{VIT}.patch_embed.proj.{{leaf}}"),
    *below(
        "backbone.blocks.{i}",
        f"{VIT}.blocks.{{i}}",
        (
            ("attention.query.weight", "attn.qkv.weight#0"),
            ("attention.key.weight", "attn.qkv.weight#1"),
            ("attention.value.weight", "attn.qkv.weight#2"),
            ("attention.query.bias", "attn.q_bias"),
            ("attention.value.bias", "attn.v_bias"),
            ("attention.out.{leaf}", "attn.proj.{leaf}"),
            ("norm_attention.{leaf}", "norm1.{leaf}"),
            ("norm_ffn.{leaf}", "norm2.{leaf}"),
            ("scale_attention", "gamma_1"),
            ("scale_ffn", "gamma_2"),
            ("ffn.0.{leaf}", "mlp.fc1.{leaf}"),
            ("ffn.3.{leaf}", "mlp.fc2.{leaf}"),
        ),
    ),
    *_level(
        "bn",
        f"{PROJECTOR}.stages_sampling.{{i}}.{{j}}",
        f"{PROJECTOR}.stages.{{i}}.0.cv1",
        f"{PROJECTOR}.stages.{{i}}.0.cv2",
        f"{PROJECTOR}.stages.{{i}}.0.m.{{j}}.cv",
        f"{PROJECTOR}.stages.{{i}}.1",
    ),
    *DECODER_NAMES,
)

HUB: Table = (
    ("backbone.position", HUB_POSITION),
    ("backbone.embed.{leaf}", f"{HUB_VIT}.embeddings.projection.{{leaf}}"),
    *below(
        "backbone.blocks.{i}",
        f"{HUB_VIT}.encoder.layer.{{i}}",
        (
            *(
                (f"attention.{name}.{{leaf}}", f"attention.attention.{name}.{{leaf}}")
                for name in ("query", "key", "value")
            ),
            ("attention.out.{leaf}", "attention.output.{leaf}"),
            ("norm_attention.{leaf}", "layernorm_before.{leaf}"),
            ("norm_ffn.{leaf}", "layernorm_after.{leaf}"),
            ("scale_attention", "gamma_1"),
            ("scale_ffn", "gamma_2"),
            ("ffn.0.{leaf}", "intermediate.fc1.{leaf}"),
            ("ffn.3.{leaf}", "intermediate.fc2.{leaf}"),
        ),
    ),
    *_level(
        "norm",
        f"{HUB_LEVEL}.sampling_layers.{{j}}.layers",
        f"{HUB_LEVEL}.projector_layer.conv1",
        f"{HUB_LEVEL}.projector_layer.conv2",
        f"{HUB_LEVEL}.projector_layer.bottlenecks.{{j}}.conv",
        f"{HUB_LEVEL}.layer_norm",
    ),
    ("queries.content", "model.query_feat.weight"),
    ("queries.places", "model.reference_point_embed.weight"),
    ("queries.prepare.{i}.0.{leaf}", "model.enc_output.{i}.{leaf}"),
    ("queries.prepare.{i}.1.{leaf}", "model.enc_output_norm.{i}.{leaf}"),
    ("queries.class_heads.{i}.{leaf}", "model.enc_out_class_embed.{i}.{leaf}"),
    perceptron("queries.box_steps.{i}.step", "model.enc_out_bbox_embed.{i}"),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_cross.norm.{leaf}", "cross_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "layer_norm.{leaf}"),
            *projected_sampling("cross_attention", "cross_attn"),
            ("ffn.0.{leaf}", "mlp.fc1.{leaf}"),
            ("ffn.3.{leaf}", "mlp.fc2.{leaf}"),
        ),
    ),
    ("decoder.norm.{leaf}", "model.decoder.layernorm.{leaf}"),
    perceptron("decoder.position", "model.decoder.ref_point_head"),
    ("decoder.class_head.{leaf}", "class_embed.{leaf}"),
    perceptron("decoder.box_step.step", "bbox_embed"),
)


def unpacked(state: State) -> State:
    """Return the tensors of the authors' code with the three parts of the backbone's attentions."""
    parts: State = {}
    for key, value in state.items():
        if QKV.fullmatch(key):
            parts |= {f"{key}#{index}": part for index, part in enumerate(value.chunk(3))}
        else:
            parts[key] = value
    return parts


def in_files(state: State) -> State:
    """Return the tensors of transformers by the names that they have in files."""
    named: State = {}
    for key, value in state.items():
        for variant, name in HUB_VARIANTS:
            key = re.sub(variant, name, key)
        named[key] = value
    return named
