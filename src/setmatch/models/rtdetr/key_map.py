"""Tensor names of RT-DETR in its published layouts: the authors' codes and transformers."""

from setmatch.models.weights.layouts import hybrid_keys
from setmatch.models.weights.layouts.hybrid_keys import box_step, conv, csp_block, numbered_conv
from setmatch.models.weights.layouts.key_map import Table, conv_and_norm


def _original_backbone() -> Table:
    rows: list[tuple[str, str]] = []
    for index in range(3):
        rows += conv(f"backbone.stem.{index}", f"backbone.conv1.conv1_{index + 1}")
    theirs = "backbone.res_layers.{i}.blocks.{j}"
    for index, branch in enumerate("abc"):
        ours = f"backbone.stages.{{i}}.{{j}}.layers.{index}"
        rows += conv(ours, f"{theirs}.branch2{branch}")
    # The shortcuts of the first stage do not halve, and have no pool before the convolution.
    rows += conv("backbone.stages.0.{j}.around", "backbone.res_layers.0.blocks.{j}.short")
    rows += conv("backbone.stages.{i}.{j}.around", f"{theirs}.short.conv")
    return tuple(rows)


def _hub_backbone() -> Table:
    def hub(ours: str, theirs: str) -> Table:
        return conv_and_norm(ours, f"{theirs}.convolution", f"{theirs}.normalization")

    stages = "model.backbone.model.encoder.stages"
    return (
        *hub("backbone.stem.{i}", "model.backbone.model.embedder.embedder.{i}"),
        *hub("backbone.stages.{i}.{j}.layers.{k}", f"{stages}.{{i}}.layers.{{j}}.layer.{{k}}"),
        *hub("backbone.stages.0.{j}.around", f"{stages}.0.layers.{{j}}.shortcut"),
        *hub("backbone.stages.{i}.{j}.around", f"{stages}.{{i}}.layers.{{j}}.shortcut.1"),
    )


def _fusion(encoder: str) -> Table:
    rows: list[tuple[str, str]] = []
    rows += conv("encoder.lateral.{i}", f"{encoder}.lateral_convs.{{i}}")
    for ours, theirs in (("down", "fpn_blocks"), ("up", "pan_blocks")):
        rows += csp_block(f"encoder.{ours}.{{i}}.csp", f"{encoder}.{theirs}.{{i}}")
        rows += conv(f"encoder.{ours}.{{i}}.merge", f"{encoder}.{theirs}.{{i}}.conv3")
    rows += conv("encoder.shrink.{i}.conv", f"{encoder}.downsample_convs.{{i}}")
    return tuple(rows)


def _decoder(layers: str, cross_attention: str, norm: str) -> Table:
    ours = "decoder.layers.{i}"
    return (
        (
            f"{ours}.cross_attention.value.{{leaf}}",
            f"{layers}.{cross_attention}.value_proj.{{leaf}}",
        ),
        (
            f"{ours}.cross_attention.out.{{leaf}}",
            f"{layers}.{cross_attention}.output_proj.{{leaf}}",
        ),
        (f"{ours}.around_cross.norm.{{leaf}}", f"{layers}.{norm}.{{leaf}}"),
    )


_ORIGINAL: Table = (
    *_original_backbone(),
    *_fusion("encoder"),
    *hybrid_keys.ORIGINAL,
    *_decoder("decoder.decoder.layers.{i}", "cross_attn", "norm2"),
    *box_step("decoder.box_steps.{i}", "decoder.dec_bbox_head.{i}"),
)
_NUMBERED: Table = (
    *numbered_conv("encoder.project.{i}", "encoder.input_proj.{i}"),
    ("queries.prepare.{i}.{leaf}", "decoder.enc_output.{i}.{leaf}"),
)
_NAMED: Table = (
    *conv("encoder.project.{i}", "encoder.input_proj.{i}"),
    *hybrid_keys.NAMED_PREPARATION,
)
# The code of RT-DETRv2 trains RT-DETR as well, and names some parts that RT-DETR's code numbers.
ORIGINAL: Table = (*_ORIGINAL, *_NUMBERED)
ORIGINAL_V2: Table = (*_ORIGINAL, *_NAMED)
ORIGINAL_EITHER: Table = (*_ORIGINAL, *_NUMBERED, *_NAMED)

TRANSFORMERS: Table = (
    *_hub_backbone(),
    *_fusion("model.encoder"),
    *hybrid_keys.TRANSFORMERS,
    *_decoder("model.decoder.layers.{i}", "encoder_attn", "encoder_attn_layer_norm"),
    *box_step("decoder.box_steps.{i}", "model.decoder.bbox_embed.{i}"),
)
