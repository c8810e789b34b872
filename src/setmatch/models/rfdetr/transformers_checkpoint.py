"""RF-DETR in transformers' layout: for object detection, and for instance segmentation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.rfdetr.checkpoint import (
    matches_published,
    our_state,
    read_original,
    with_card,
)
from setmatch.models.rfdetr.key_map import PUBLISHED_NAMES
from setmatch.models.rfdetr.tensor_shapes import arguments_of, points_of
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.layouts.hub_folder import PREPROCESSOR, named_categories
from setmatch.models.weights.layouts.hybrid_folder import others
from setmatch.models.weights.layouts.key_map import count_parts
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_json
from setmatch.models.weights.stated_sizes import StatedSize, require_stated_sizes, same
from setmatch.structures.metadata import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

# What the model has one form of; a config with another value is of another model.
REQUIRED = {
    "activation_function": "silu",
    "decoder_activation_function": "relu",
    "attention_bias": True,
    "num_feature_levels": 1,
    "mask_downsample_ratio": 4,
    "segmentation_head_activation_function": "gelu",
}
REQUIRED_OF_BACKBONE = {
    "model_type": "rf_detr_dinov2",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "apply_layernorm": True,
    "reshape_hidden_states": True,
    "num_channels": 3,
}
# The settings that give the shapes of tensors, in LW-DETR's, too.
WINDOWED_SIZES = (
    *same(
        {
            "d_model": "dim",
            "decoder_layers": "decoder_layers",
            "decoder_ffn_dim": "ffn_dim",
            "decoder_n_points": "points",
            "c2f_num_blocks": "projector_blocks",
            "group_detr": "query_groups",
            "num_queries": "num_queries",
            "backbone_config.hidden_size": "backbone_dim",
            "backbone_config.patch_size": "patch",
            "backbone_config.num_hidden_layers": "backbone_blocks",
        }
    ),
    StatedSize("hidden_expansion", "projector_dim", lambda said, sizes: int(said * sizes["dim"])),
    StatedSize(
        "backbone_config.mlp_ratio",
        "backbone_ffn_dim",
        lambda said, sizes: int(said * sizes["backbone_dim"]),
    ),
)
SIZES = (
    *WINDOWED_SIZES,
    StatedSize("backbone_config.image_size", "grid", lambda said, sizes: said // sizes["patch"]),
)
BLOCKS = r"backbone\.blocks\.(\d+)\."
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that RF-DETR as published
    does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != "rf_detr":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'rf_detr'")
    backbone = config.get("backbone_config") or {}
    outputs = outputs_of(backbone)
    _require_published_parts(config, backbone, outputs, raw.path)
    notes: list[str] = []
    if dropouts := [name for name in DROPOUTS if config.get(name)]:
        notes.append(f"config.json sets {', '.join(dropouts)}: this RF-DETR is trained without")
    state = our_state(raw)
    cross_heads = config.get("decoder_cross_attention_heads", 16)
    arguments = {
        **arguments_of(state),
        "backbone_heads": backbone.get("num_attention_heads", 12),
        "windows": backbone.get("num_windows", 4),
        "outputs": outputs,
        "projector_eps": config.get("layer_norm_eps", 1e-5),
        "heads": config.get("decoder_self_attention_heads", 8),
        "cross_heads": cross_heads,
        "points": points_of(state, cross_heads),
    }
    sizes = {**arguments, "backbone_blocks": count_parts(state, BLOCKS)}
    require_stated_sizes(config, sizes, SIZES)
    num_classes = len(state["decoder.class_head.weight"])
    categories = named_categories(num_classes, config, raw.path, notes)
    trained_px = arguments["patch"] * arguments["grid"]
    preprocessing = preprocessing_of(raw.path, trained_px, notes)
    return with_card(raw, state, arguments, categories, preprocessing, notes)


def outputs_of(backbone: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the numbers of blocks after which a map is taken."""
    named = backbone.get("out_features") or backbone.get("out_indices") or []
    numbers = (str(name).removeprefix("stage") for name in named)
    return tuple(0 if number == "stem" else int(number) for number in numbers)


def _require_published_parts(
    config: Mapping[str, Any], backbone: Mapping[str, Any], outputs: tuple[int, ...], path: Path
) -> None:
    windowed = backbone.get("window_block_indexes")
    expected = (
        [block for block in range(outputs[-1] + 1) if block not in outputs] if outputs else []
    )
    problems = [
        *others(config, REQUIRED),
        *(f"backbone_config.{each}" for each in others(backbone, REQUIRED_OF_BACKBONE)),
        *([] if outputs else ["backbone_config.out_features"]),
        *(
            ["backbone_config.window_block_indexes"]
            if windowed is not None and sorted(windowed) != expected
            else []
        ),
    ]
    if problems:
        raise WeightsError(
            f"{path}: config.json has a value of {', '.join(problems)} that no published RF-DETR "
            "has; such a model is not read"
        )


def preprocessing_of(folder: Path, trained_px: int, notes: list[str]) -> Preprocessing:
    """Return the preprocessing of a folder; without, squares of the published size, noted."""
    path = folder / PREPROCESSOR
    if not path.exists():
        notes.append(
            f"assumed images of {trained_px}x{trained_px} pixels, normalized as those of ImageNet: "
            f"there is no {path.name}"
        )
        return square(trained_px)
    tree = read_json(path)
    size = tree.get("size") or {}
    if not isinstance(size, dict):
        size = {"height": size, "width": size}
    normalizes = tree.get("do_normalize", True)
    height, width = (size.get(side, trained_px) for side in ("height", "width"))
    values = {
        "short_side_px": size.get("shortest_edge", height),
        "long_side_px": size.get("longest_edge", width),
        "mean": tree.get("image_mean", list(IMAGENET_MEAN)) if normalizes else [0.0] * 3,
        "std": tree.get("image_std", list(IMAGENET_STD)) if normalizes else [1.0] * 3,
        "size_px": None if "shortest_edge" in size else [height, width],
    }
    return read_preprocessing(values, str(path))


def square(side_px: int) -> Preprocessing:
    """Return the published preprocessing: every image becomes a square."""
    return Preprocessing(side_px, side_px, size_px=(side_px, side_px))


def read(raw: RawCheckpoint) -> LoadedWeights:
    """Read tensors, whose names both codes write alike, by the settings beside them."""
    of_transformers = raw.path.is_dir() or "model_type" in (raw.settings or {})
    return read_transformers(raw) if of_transformers else read_original(raw)


LAYOUT = CheckpointLayout(
    "original",
    matches_published,
    read,
    family="RF-DETR",
    table=PUBLISHED_NAMES,
)
