"""Tensor names of D-FINE in its published layouts: the authors' code and transformers."""

from dataclasses import dataclass

from setmatch.models.weights.key_map import (
    Table,
    below,
    conv_and_norm,
    packed_attention,
    split_attention,
)

STEM = {"first": "stem1", "narrow": "stem2a", "widen": "stem2b", "merge": "stem3", "last": "stem4"}


@dataclass(frozen=True)
class BackboneNames:
    """What a layout calls the parts of HGNetV2."""

    stem: str
    stages: str
    conv: str
    norm: str

    def table(self) -> Table:
        """Return the table of the whole backbone."""
        rows: list[tuple[str, str]] = []
        for ours, theirs in STEM.items():
            rows += self._activated(f"backbone.stem.{ours}", f"{self.stem}.{theirs}")
        rows += self._plain("backbone.stages.{i}.shrink", f"{self.stages}.{{i}}.downsample")
        ours, theirs = "backbone.stages.{i}.blocks.{j}", f"{self.stages}.{{i}}.blocks.{{j}}"
        layer, their_layer = f"{ours}.layers.{{k}}", f"{theirs}.layers.{{k}}"
        rows += self._plain(f"{layer}.pointwise", f"{their_layer}.conv1")
        rows += self._activated(f"{layer}.depthwise", f"{their_layer}.conv2")
        rows += self._activated(layer, their_layer)
        rows += self._activated(f"{ours}.squeeze", f"{theirs}.aggregation.0")
        rows += self._activated(f"{ours}.expand", f"{theirs}.aggregation.1")
        return tuple(rows)

    def _plain(self, ours: str, theirs: str) -> Table:
        return conv_and_norm(ours, f"{theirs}.{self.conv}", f"{theirs}.{self.norm}")

    def _activated(self, ours: str, theirs: str) -> Table:
        return (
            *self._plain(f"{ours}.conv", theirs),
            (f"{ours}.affine.scale", f"{theirs}.lab.scale"),
            (f"{ours}.affine.shift", f"{theirs}.lab.bias"),
        )


@dataclass(frozen=True)
class FusionNames:
    """What a layout calls the parts of the blocks that fuse levels."""

    split: str
    first: str
    after_first: str
    second: str
    after_second: str
    merge: str
    shrink: tuple[str, str]

    def table(self, encoder: str) -> Table:
        """Return the table of all fusion blocks below the prefix `encoder`."""
        rows: list[tuple[str, str]] = []
        rows += _conv("encoder.lateral.{i}", f"{encoder}.lateral_convs.{{i}}")
        for ours, theirs in (("down", "fpn_blocks"), ("up", "pan_blocks")):
            rows += below(f"encoder.{ours}.{{i}}", f"{encoder}.{theirs}.{{i}}", self._block())
        for ours, theirs in zip(("pointwise", "depthwise"), self.shrink, strict=True):
            rows += _conv(
                f"encoder.shrink.{{i}}.{ours}", f"{encoder}.downsample_convs.{{i}}.{theirs}"
            )
        return tuple(rows)

    def _block(self) -> Table:
        rows: list[tuple[str, str]] = []
        for name in ("split", "after_first", "after_second", "merge"):
            rows += _conv(name, getattr(self, name))
        for name in ("first", "second"):
            theirs = getattr(self, name)
            rows += _conv(f"{name}.main", f"{theirs}.conv1")
            rows += _conv(f"{name}.around", f"{theirs}.conv2")
            rows += _conv(f"{name}.blocks.{{k}}.wide", f"{theirs}.bottlenecks.{{k}}.conv1")
            rows += _conv(f"{name}.blocks.{{k}}.pointwise", f"{theirs}.bottlenecks.{{k}}.conv2")
        return tuple(rows)


def _conv(ours: str, theirs: str) -> Table:
    return conv_and_norm(ours, f"{theirs}.conv", f"{theirs}.norm")


def _decoder(ours: str, theirs: str) -> Table:
    """Return the rows of the decoder that both layouts call alike, below different prefixes."""
    return below(
        ours,
        theirs,
        (
            ("gate.weights.{leaf}", "gateway.gate.{leaf}"),
            ("gate.norm.{leaf}", "gateway.norm.{leaf}"),
        ),
    )


def _sampling(attention: str) -> Table:
    return (
        ("cross_attention.offsets.{leaf}", f"{attention}.sampling_offsets.{{leaf}}"),
        ("cross_attention.attention.{leaf}", f"{attention}.attention_weights.{{leaf}}"),
    )


BOX_STEP = (("first", 0), ("second", 1), ("last", 2))


def _box_step(ours: str, theirs: str) -> Table:
    return tuple((f"{ours}.{a}.{{leaf}}", f"{theirs}.layers.{b}.{{leaf}}") for a, b in BOX_STEP)


ORIGINAL: Table = (
    *BackboneNames("backbone.stem", "backbone.stages", "conv", "bn").table(),
    *_conv("encoder.project.{i}", "encoder.input_proj.{i}"),
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
    *FusionNames("cv1", "cv2.0", "cv2.1", "cv3.0", "cv3.1", "cv4", ("0.cv1", "0.cv2")).table(
        "encoder"
    ),
    *_conv("encoder.to_memory.{i}", "decoder.input_proj.{i}"),
    ("queries.prepare.0.{leaf}", "decoder.enc_output.proj.{leaf}"),
    ("queries.prepare.1.{leaf}", "decoder.enc_output.norm.{leaf}"),
    ("queries.class_head.{leaf}", "decoder.enc_score_head.{leaf}"),
    *_box_step("queries.box_step", "decoder.enc_bbox_head"),
    ("denoising.embedding.weight", "decoder.denoising_class_embed.weight"),
    *below(
        "decoder.layers.{i}",
        "decoder.decoder.layers.{i}",
        (
            *packed_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "norm1.{leaf}"),
            ("around_ffn.norm.{leaf}", "norm3.{leaf}"),
            *_sampling("cross_attn"),
            ("ffn.0.{leaf}", "linear1.{leaf}"),
            ("ffn.3.{leaf}", "linear2.{leaf}"),
        ),
    ),
    *_decoder("decoder.layers.{i}", "decoder.decoder.layers.{i}"),
    (
        "decoder.quality.{i}.perceptron.layers.{j}.{leaf}",
        "decoder.decoder.lqe_layers.{i}.reg_conf.layers.{j}.{leaf}",
    ),
    ("decoder.class_heads.{i}.{leaf}", "decoder.dec_score_head.{i}.{leaf}"),
    (
        "decoder.edge_heads.{i}.layers.{j}.{leaf}",
        "decoder.dec_bbox_head.{i}.layers.{j}.{leaf}",
    ),
    *_box_step("decoder.start", "decoder.pre_bbox_head"),
    ("decoder.position.layers.{i}.{leaf}", "decoder.query_pos_head.layers.{i}.{leaf}"),
    ("decoder.reach", "decoder.up"),
    ("decoder.per_side", "decoder.reg_scale"),
)

TRANSFORMERS: Table = (
    *BackboneNames(
        "model.backbone.model.embedder",
        "model.backbone.model.encoder.stages",
        "convolution",
        "normalization",
    ).table(),
    *conv_and_norm(
        "encoder.project.{i}", "model.encoder_input_proj.{i}.0", "model.encoder_input_proj.{i}.1"
    ),
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
    *FusionNames(
        "conv1", "csp_rep1", "conv2", "csp_rep2", "conv3", "conv4", ("conv1", "conv2")
    ).table("model.encoder"),
    *conv_and_norm(
        "encoder.to_memory.{i}", "model.decoder_input_proj.{i}.0", "model.decoder_input_proj.{i}.1"
    ),
    ("queries.prepare.0.{leaf}", "model.enc_output.0.{leaf}"),
    ("queries.prepare.1.{leaf}", "model.enc_output.1.{leaf}"),
    ("queries.class_head.{leaf}", "model.enc_score_head.{leaf}"),
    *_box_step("queries.box_step", "model.enc_bbox_head"),
    ("denoising.embedding.weight", "model.denoising_class_embed.weight"),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            *split_attention("self_attention", "self_attn"),
            ("around_self.norm.{leaf}", "self_attn_layer_norm.{leaf}"),
            ("around_ffn.norm.{leaf}", "final_layer_norm.{leaf}"),
            *_sampling("encoder_attn"),
            ("ffn.0.{leaf}", "fc1.{leaf}"),
            ("ffn.3.{leaf}", "fc2.{leaf}"),
        ),
    ),
    *_decoder("decoder.layers.{i}", "model.decoder.layers.{i}"),
    (
        "decoder.quality.{i}.perceptron.layers.{j}.{leaf}",
        "model.decoder.lqe_layers.{i}.reg_conf.layers.{j}.{leaf}",
    ),
    ("decoder.class_heads.{i}.{leaf}", "model.decoder.class_embed.{i}.{leaf}"),
    (
        "decoder.edge_heads.{i}.layers.{j}.{leaf}",
        "model.decoder.bbox_embed.{i}.layers.{j}.{leaf}",
    ),
    *_box_step("decoder.start", "model.decoder.pre_bbox_head"),
    ("decoder.position.layers.{i}.{leaf}", "model.decoder.query_pos_head.layers.{i}.{leaf}"),
    ("decoder.reach", "model.decoder.up"),
    ("decoder.per_side", "model.decoder.reg_scale"),
)
