"""Tensor names of DEIMv2: those of its authors' code, and those of transformers."""

import re

from setmatch.models.dfine.key_map import BackboneNames
from setmatch.models.weights.layouts import hybrid_keys
from setmatch.models.weights.layouts.hybrid_keys import box_step, conv
from setmatch.models.weights.layouts.key_map import State, Table, below, conv_and_norm

# Both halves of these stand for layers of their own: those beside each other in a CSP block, and
# the two of a gated feed-forward network.
HALVED = re.compile(
    r".*\.(?:fpn|pan)_block(?:s\.\d+)?\.(?:cv[23]\.0|csp_rep[12])\.conv1\.(?:conv|norm)\.\w+"
    r"|.*\.swish_ffn\.w12\.\w+"
)


def _fusion(first: str, after: tuple[str, str], second: str, merge: str, split: str) -> Table:
    """Pair a block that fuses levels; `after` are the convolutions after its CSP blocks."""
    return (
        *conv("split", split),
        *_csp_block("first", first),
        *conv("after_first", after[0]),
        *_csp_block("second", second),
        *conv("after_second", after[1]),
        *conv("merge", merge),
    )


def _csp_block(ours: str, theirs: str) -> Table:
    """Pair a CSP block whose two projections are one convolution, the one around the blocks first.

    Tensors of that have `#0` and `#1` after their names (see `unpacked`).
    """
    return (
        (f"{ours}.around.0.weight", f"{theirs}.conv1.conv.weight#0"),
        (f"{ours}.around.1.{{leaf}}", f"{theirs}.conv1.norm.{{leaf}}#0"),
        (f"{ours}.main.0.weight", f"{theirs}.conv1.conv.weight#1"),
        (f"{ours}.main.1.{{leaf}}", f"{theirs}.conv1.norm.{{leaf}}#1"),
        *conv(f"{ours}.blocks.{{k}}.wide", f"{theirs}.bottlenecks.{{k}}.conv1"),
        *conv(f"{ours}.blocks.{{k}}.pointwise", f"{theirs}.bottlenecks.{{k}}.conv2"),
    )


def _encoder(theirs: str, block: Table, shrink: tuple[str, str]) -> Table:
    """Pair what fuses levels in both encoders; `shrink` are the convolutions of the hybrid one."""
    rows: list[tuple[str, str]] = []
    for ours, name in (("down", "fpn_block"), ("up", "pan_block")):
        rows += below(f"encoder.{ours}.{{i}}", f"{theirs}.{name}s.{{i}}", block)
        rows += below(f"encoder.{ours}.0", f"{theirs}.{name}", block)
    rows += conv("encoder.lateral.{i}", f"{theirs}.lateral_convs.{{i}}")
    for ours, name in zip(("pointwise", "depthwise"), shrink, strict=True):
        rows += conv(f"encoder.shrink.{{i}}.{ours}", f"{theirs}.downsample_convs.{{i}}.{name}")
    return tuple(rows)


def _distributions(decoder: str, edge_heads: str, start: str) -> Table:
    return (
        ("decoder.layers.{i}.gate.weights.{leaf}", f"{decoder}.layers.{{i}}.gateway.gate.{{leaf}}"),
        (
            "decoder.quality.{i}.perceptron.layers.{j}.{leaf}",
            f"{decoder}.lqe_layers.{{i}}.reg_conf.layers.{{j}}.{{leaf}}",
        ),
        ("decoder.edge_heads.{i}.layers.{j}.{leaf}", f"{edge_heads}.{{i}}.layers.{{j}}.{{leaf}}"),
        *box_step("decoder.start", start),
    )


_NORMS = ("around_self.norm", "gate.norm", "gate.norm", "around_ffn.norm")

ORIGINAL: Table = (
    *BackboneNames("backbone.stem", "backbone.stages", "conv", "bn").table(),
    *conv("encoder.project.{i}", "encoder.input_proj.{i}"),
    *_encoder(
        "encoder",
        _fusion("cv2.0", ("cv2.1", "cv3.1"), "cv3.0", "cv4", "cv1"),
        ("0.cv1", "0.cv2"),
    ),
    *conv_and_norm("encoder.shrink.0.conv", "encoder.down_sample1.1", "encoder.down_sample1.2"),
    *conv_and_norm("encoder.shrink.1.conv", "encoder.down_sample2.1", "encoder.down_sample2.2"),
    *conv("encoder.spread.conv", "encoder.bi_fusion.cv"),
    *below(
        "decoder.layers.{i}",
        "decoder.decoder.layers.{i}",
        (
            *(
                (f"{ours}.weight", f"{theirs}.scale")
                for ours, theirs in zip(
                    _NORMS, ("norm1", "norm2", "gateway.norm", "norm3"), strict=True
                )
            ),
            ("ffn.gate.{leaf}", "swish_ffn.w12.{leaf}#0"),
            ("ffn.up.{leaf}", "swish_ffn.w12.{leaf}#1"),
            ("ffn.down.{leaf}", "swish_ffn.w3.{leaf}"),
        ),
    ),
    *hybrid_keys.ORIGINAL,
    *_distributions("decoder.decoder", "decoder.dec_bbox_head", "decoder.pre_bbox_head"),
    ("decoder.reach", "decoder.up"),
    ("decoder.per_side", "decoder.reg_scale"),
)

TRANSFORMERS: Table = (
    *BackboneNames(
        "model.conv_encoder.model.embedder",
        "model.conv_encoder.model.encoder.stages",
        "convolution",
        "normalization",
    ).table(),
    *conv("encoder.project.{i}", "model.conv_encoder.encoder_input_proj.{i}"),
    *conv("encoder.project.{i}", "model.encoder.input_proj.{i}"),
    *_encoder(
        "model.encoder",
        _fusion("csp_rep1", ("csp_rep1.conv2", "csp_rep2.conv2"), "csp_rep2", "conv2", "conv1"),
        ("conv1", "conv2"),
    ),
    *conv("encoder.shrink.0.conv", "model.encoder.down_conv1"),
    *conv("encoder.shrink.1.conv", "model.encoder.down_conv2"),
    *conv("encoder.spread.conv", "model.encoder.bi_fusion_conv"),
    *conv("encoder.to_memory.{i}", "model.decoder_input_proj.{i}"),
    *below(
        "decoder.layers.{i}",
        "model.decoder.layers.{i}",
        (
            ("gate.norm.{leaf}", "encoder_attn_layer_norm.{leaf}"),
            ("gate.norm.{leaf}", "gateway.norm.{leaf}"),
            *(
                (f"ffn.{name}.{{leaf}}", f"mlp.{name}_proj.{{leaf}}")
                for name in ("gate", "up", "down")
            ),
        ),
    ),
    *hybrid_keys.TRANSFORMERS,
    *_distributions("model.decoder", "model.decoder.bbox_embed", "model.decoder.pre_bbox_head"),
    ("decoder.reach", "model.decoder.up"),
    ("decoder.per_side", "model.decoder.reg_scale"),
)


def unpacked(state: State) -> State:
    """Return the tensors of either code with the halves of those that stand for two layers."""
    parts: State = {}
    for key, value in state.items():
        if HALVED.fullmatch(key) and value.ndim:
            parts |= {f"{key}#{index}": half for index, half in enumerate(value.chunk(2))}
        else:
            parts[key] = value
    return parts
