"""DEIMv2 in transformers' layout: Deimv2ForObjectDetection, whose graph differs from the authors'.

There tokens pass a layer before their heads, each decoder layer encodes the box that it starts
from, and heads have another activation. Weights of one are therefore none for the other.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.deimv2.checkpoint import require_hgnetv2
from setmatch.models.deimv2.key_map import TRANSFORMERS, unpacked
from setmatch.models.deimv2.tensor_shapes import arguments_of, nearest_preset
from setmatch.models.dfine.transformers_checkpoint import (
    ARGUMENTS,
    REQUIRED_OF_BACKBONE,
    SCALE,
)
from setmatch.models.dfine.transformers_checkpoint import SIZES as DFINE_SIZES
from setmatch.models.layers.heads.heads import ACTIVATIONS
from setmatch.models.weights.layouts import hybrid_folder
from setmatch.models.weights.layouts.hybrid_folder import (
    arguments_from,
    categories_of,
    hub_names,
    others,
    points_of,
    preprocessing_of,
    with_denoising,
)
from setmatch.models.weights.layouts.key_map import from_layout, with_batch_counters
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import StatedSize, require_stated_sizes
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

REQUIRED = {
    **{k: v for k, v in hybrid_folder.REQUIRED.items() if k != "decoder_activation_function"},
    "eval_size": None,
    "decoder_method": "default",
    "encoder_fuse_op": "sum",
    "encoder_has_trailing_conv": True,
    "layer_scale": 1,
}
# Gates halve the width of the feed-forward network.
SIZES = (
    *(each for each in DFINE_SIZES if each.setting != "decoder_ffn_dim"),
    StatedSize("decoder_ffn_dim", "ffn_dim", lambda said, _: said // 2 * 2),
)
OF_ATTENTION = ("encoder_layers", "encoder_ffn_dim")  # which a lite encoder has none of
COMPUTED = re.compile(r".*\.num_points_scale")
EDGE_HEAD = re.compile(r"(model\.decoder\.bbox_embed)\.\d+\.")


def matches(keys: Collection[str]) -> bool:
    """Recognize the gated feed-forward network of transformers' decoder."""
    return all(
        f"model.decoder.{part}.weight" in keys
        for part in ("layers.0.mlp.gate_proj", "pre_bbox_head.layers.0")
    )


def read(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that no DEIMv2 on
    HGNetV2 has.
    """
    config = raw.settings or {}
    if config.get("model_type") != "deimv2":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'deimv2'")
    require_hgnetv2("dinov3" not in str(config.get("backbone_config")), raw.path)
    lite = config.get("encoder_type", "hybrid") == "lite"
    _require_published_parts(config, lite, raw.path)
    notes: list[str] = []
    theirs = hub_names(raw.state, config)
    kept = {key: value for key, value in theirs.items() if not COMPUTED.fullmatch(key)}
    if config.get("share_bbox_head"):
        # A file has one of the equal heads, not always the first.
        kept = {EDGE_HEAD.sub(r"\1.0.", key): value for key, value in kept.items()}
    state = with_batch_counters(from_layout(unpacked(kept), TRANSFORMERS))
    state = with_denoising(state, notes)
    arguments = arguments_of(state, points_of(theirs[SCALE.format(0)]))
    sizes = tuple(each for each in SIZES if not lite or each.setting not in OF_ATTENTION)
    require_stated_sizes(config, arguments, sizes)
    arguments |= arguments_from(config, ARGUMENTS) | {
        "prepares_tokens": True,
        "keeps_position": False,
        "activation": "relu",
        "position_activation": config.get("decoder_activation_function", "relu"),
        "shared_edge_head": bool(config.get("share_bbox_head")),
    }
    num_classes = len(state["queries.class_head.weight"])
    card = ModelCard(
        nearest_preset(arguments),
        arguments,
        categories_of(num_classes, config, raw.path, notes),
        preprocessing_of(raw.path, notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), {})


def _require_published_parts(config: Mapping[str, Any], lite: bool, path: Path) -> None:
    backbone = config.get("backbone_config") or {}
    strides = backbone.get("stage_downsample_strides", [2])
    halves = list(backbone.get("stage_downsample", []))
    levels = config.get("num_feature_levels", 3)
    maps = len(config.get("encoder_in_channels", [0, 0, 0]))
    proj_layers = list(config.get("encode_proj_layers", [2]))
    attends = not lite and config.get("encoder_layers", 1)
    problems = [
        *others(config, REQUIRED),
        *(f"backbone_config.{each}" for each in others(backbone, REQUIRED_OF_BACKBONE)),
        *(["stage_downsample_strides"] if set(strides) != {2} else []),
        *(["stage_downsample"] if halves != [i > 0 for i in range(len(halves))] else []),
        *(
            ["eval_idx"]
            if config.get("eval_idx", -1) not in (-1, config.get("decoder_layers", 6) - 1)
            else []
        ),
        *(["encode_proj_layers"] if attends and proj_layers != [maps - 1] else []),
        *(["num_feature_levels"] if (maps, levels) != (1, 2) and (lite or maps != levels) else []),
        *(
            ["decoder_activation_function"]
            if config.get("decoder_activation_function", "relu") not in ACTIVATIONS
            else []
        ),
        *(
            ["encoder_type"]
            if config.get("encoder_type", "hybrid") not in ("hybrid", "lite")
            else []
        ),
    ]
    if problems:
        raise WeightsError(
            f"{path}: config.json has a value of {', '.join(problems)} that no DEIMv2 on HGNetV2 "
            "has; such a model is not read"
        )


LAYOUT = CheckpointLayout(
    "transformers",
    matches,
    read,
    family="DEIMv2",
    table=TRANSFORMERS,
)
