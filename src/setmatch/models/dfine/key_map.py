"""Tensor names of D-FINE in its published layouts: the authors' code and transformers."""

from dataclasses import dataclass

from setmatch.models.weights.layouts import hybrid_keys
from setmatch.models.weights.layouts.hybrid_keys import box_step, conv, csp_block
from setmatch.models.weights.layouts.key_map import Table, below, conv_and_norm

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
        rows += conv("encoder.lateral.{i}", f"{encoder}.lateral_convs.{{i}}")
        for ours, theirs in (("down", "fpn_blocks"), ("up", "pan_blocks")):
            rows += below(f"encoder.{ours}.{{i}}", f"{encoder}.{theirs}.{{i}}", self._block())
        for ours, theirs in zip(("pointwise", "depthwise"), self.shrink, strict=True):
            rows += conv(
                f"encoder.shrink.{{i}}.{ours}", f"{encoder}.downsample_convs.{{i}}.{theirs}"
            )
        return tuple(rows)

    def _block(self) -> Table:
        rows: list[tuple[str, str]] = []
        for name in ("split", "after_first", "after_second", "merge"):
            rows += conv(name, getattr(self, name))
        for name in ("first", "second"):
            rows += csp_block(name, getattr(self, name))
        return tuple(rows)


def _gate(theirs: str) -> Table:
    return below(
        "decoder.layers.{i}.gate",
        f"{theirs}.layers.{{i}}.gateway",
        (("weights.{leaf}", "gate.{leaf}"), ("norm.{leaf}", "norm.{leaf}")),
    )


def _quality(theirs: str) -> tuple[str, str]:
    return (
        "decoder.quality.{i}.perceptron.layers.{j}.{leaf}",
        f"{theirs}.lqe_layers.{{i}}.reg_conf.layers.{{j}}.{{leaf}}",
    )


ORIGINAL: Table = (
    *BackboneNames("backbone.stem", "backbone.stages", "conv", "bn").table(),
    *conv("encoder.project.{i}", "encoder.input_proj.{i}"),
    *FusionNames("cv1", "cv2.0", "cv2.1", "cv3.0", "cv3.1", "cv4", ("0.cv1", "0.cv2")).table(
        "encoder"
    ),
    *hybrid_keys.ORIGINAL,
    *hybrid_keys.NAMED_PREPARATION,
    *_gate("decoder.decoder"),
    _quality("decoder.decoder"),
    (
        "decoder.edge_heads.{i}.layers.{j}.{leaf}",
        "decoder.dec_bbox_head.{i}.layers.{j}.{leaf}",
    ),
    *box_step("decoder.start", "decoder.pre_bbox_head"),
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
    *FusionNames(
        "conv1", "csp_rep1", "conv2", "csp_rep2", "conv3", "conv4", ("conv1", "conv2")
    ).table("model.encoder"),
    *hybrid_keys.TRANSFORMERS,
    *_gate("model.decoder"),
    _quality("model.decoder"),
    (
        "decoder.edge_heads.{i}.layers.{j}.{leaf}",
        "model.decoder.bbox_embed.{i}.layers.{j}.{leaf}",
    ),
    *box_step("decoder.start", "model.decoder.pre_bbox_head"),
    ("decoder.reach", "model.decoder.up"),
    ("decoder.per_side", "model.decoder.reg_scale"),
)
