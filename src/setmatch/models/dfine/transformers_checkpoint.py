"""D-FINE in transformers' layout: DFineForObjectDetection."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from setmatch.errors import WeightsError, short
from setmatch.models.dfine.checkpoint import (
    PREPROCESSING,
    points_scale,
    strides,
    without_backbone_counters,
)
from setmatch.models.dfine.key_map import TRANSFORMERS
from setmatch.models.dfine.tensor_shapes import COMPUTED, arguments_of, nearest_preset, points_of
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.coco_classes import COCO_THINGS
from setmatch.models.weights.download import PublishedRepository, fetch_published
from setmatch.models.weights.hub_folder import (
    PREPROCESSOR,
    label_settings,
    named_categories,
    write_hub_folder,
)
from setmatch.models.weights.key_map import State, from_layout, to_layout, with_batch_counters
from setmatch.models.weights.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_hub_folder, read_json
from setmatch.models.weights.terms import terms_of_name
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SCALE = "model.decoder.layers.{}.encoder_attn.num_points_scale"
DENOISING = "model.denoising_class_embed.weight"
ARGUMENTS = {
    "num_queries": "num_queries",
    "encoder_heads": "encoder_attention_heads",
    "offset_scale": "decoder_offset_scale",
    "frozen_norms": "freeze_backbone_batch_norms",
    "denoising_queries": "num_denoising",
    "label_noise": "label_noise_ratio",
    "box_noise": "box_noise_scale",
}
ARGUMENT_DEFAULTS = {
    "num_queries": 300,
    "encoder_attention_heads": 8,
    "decoder_offset_scale": 0.5,
    "freeze_backbone_batch_norms": True,
    "num_denoising": 100,
    "label_noise_ratio": 0.5,
    "box_noise_scale": 1.0,
}
# What the model has one form of; a config with another value is of another model.
REQUIRED = {
    "layer_norm_eps": 1e-5,
    "batch_norm_eps": 1e-5,
    "normalize_before": False,
    "eval_size": None,
    "decoder_method": "default",
    "encoder_activation_function": "gelu",
    "activation_function": "silu",
    "decoder_activation_function": "relu",
    "learn_initial_query": False,
    "positional_encoding_temperature": 10000,
}
REQUIRED_OF_BACKBONE = {"hidden_act": "relu", "stem_strides": [2, 1, 1, 2, 1]}
# Other names of the same tensors: in memory since transformers 5, and of the heads outside.
VARIANTS = (
    (r"^(class_embed|bbox_embed)\.", r"model.decoder.\1."),
    (r"\.encoder\.aifi\.", ".encoder.encoder."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.layers\.(\d+)\.mlp\.layers\.0\.", r".layers.\1.fc1."),
    (r"\.layers\.(\d+)\.mlp\.layers\.1\.", r".layers.\1.fc2."),
)
TIED = re.compile(r"model\.decoder\.(?:class|bbox)_embed\.0\..+")
# The authors' files of the model zoo at github.com/Peterande/D-FINE, converted for the hub.
PUBLISHED = {
    "dfine_n": PublishedRepository(
        "ustc-community/dfine-nano-coco",
        "066438d3d8f0da137a37b38fdf3368fd4afceced",
        "Apache-2.0",
        "19e06bdc873da819920a8d373b879721a5b9759d822f8213220bb09abbdab58b",
    ),
    "dfine_s": PublishedRepository(
        "ustc-community/dfine-small-coco",
        "f79e65b5fbb33ceb9d3ebba042955d7410c608f8",
        "Apache-2.0",
        "a144baff3a27bfd538fe37b11fa8d4fca5744b8c054b5301e7c699a1379cd18f",
    ),
    "dfine_m": PublishedRepository(
        "ustc-community/dfine-medium-coco",
        "4ab9f5e466432f4fcf9a9a023da6aa5ecc9c9829",
        "Apache-2.0",
    ),
    "dfine_l": PublishedRepository(
        "ustc-community/dfine-large-coco",
        "aa8f8211545e4cff5adf52ea512f9ac74a9824ec",
        "Apache-2.0",
    ),
    "dfine_x": PublishedRepository("ustc-community/dfine-xlarge-coco", None, "Apache-2.0"),
}
LICENSES = {each.repository: each.license for each in PUBLISHED.values()}


def matches_transformers(keys: Collection[str]) -> bool:
    """Recognize the first box head of transformers' decoder, with its distributions."""
    heads = ("pre_bbox_head.layers.0.weight", "lqe_layers.0.reg_conf.layers.0.weight")
    return all(f"model.decoder.{head}" in keys for head in heads)


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that D-FINE as published
    does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != "d_fine":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'd_fine'")
    _require_published_parts(config, raw.path)
    notes: list[str] = []
    theirs = _normalized(raw.state, config)
    kept = {key: value for key, value in theirs.items() if not COMPUTED.fullmatch(key)}
    state = with_batch_counters(from_layout(kept, TRANSFORMERS))
    if DENOISING not in theirs:
        notes.append("there is no embedding for denoising in the file: it starts at zero")
        classes, dim = state["queries.class_head.weight"].shape
        state["denoising.embedding.weight"] = torch.zeros(classes + 1, dim)
    settings = {**ARGUMENT_DEFAULTS, **config}
    arguments = arguments_of(state, points_of(theirs[SCALE.format(0)]))
    arguments |= {ours: settings[theirs_name] for ours, theirs_name in ARGUMENTS.items()}
    if not arguments["denoising_queries"]:
        arguments["denoising_queries"] = ARGUMENT_DEFAULTS["num_denoising"]
    num_classes = len(state["queries.class_head.weight"])
    terms = terms_of_name(raw.source.rsplit("/", 1)[-1], num_classes)
    card = ModelCard(
        raw.preset or nearest_preset(arguments),
        arguments,
        _categories(num_classes, config, raw.path, notes),
        _preprocessing(raw.path, notes),
        license=terms.name if terms else LICENSES.get(raw.source, "unknown"),
        source=raw.source,
    )
    return LoadedWeights(card, state, tuple(notes), terms)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    published = PUBLISHED[name]
    folder = fetch_published(name, published)
    return read_transformers(read_hub_folder(folder, published.repository, name))


def write_transformers(card: ModelCard, state: State, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors for transformers."""
    arguments = card.arguments
    if arguments["frozen_norms"]:
        state = without_backbone_counters(state)
    tensors = to_layout(state, TRANSFORMERS)
    for layer in range(arguments["decoder_layers"]):
        tensors[SCALE.format(layer)] = points_scale(arguments["points"])
    if arguments["decoder_layers"] == 1:  # transformers cannot tie the heads of one layer
        tensors |= {
            key.removeprefix("model.decoder."): value.clone()
            for key, value in tensors.items()
            if TIED.fullmatch(key)
        }
    processor = {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "size": _size(card.preprocessing),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": card.preprocessing.mean != PREPROCESSING.mean
        or card.preprocessing.std != PREPROCESSING.std,
        "image_mean": list(card.preprocessing.mean),
        "image_std": list(card.preprocessing.std),
    }
    write_hub_folder(folder, _config(card), processor, tensors)


def _config(card: ModelCard) -> dict[str, Any]:
    arguments = card.arguments
    levels = len(arguments["points"])
    stages = len(arguments["stage_out"])
    out, dim = list(arguments["stage_out"]), arguments["encoder_dim"]
    return {
        "architectures": ["DFineForObjectDetection"],
        "model_type": "d_fine",
        "backbone_config": {
            "model_type": "hgnet_v2",
            "stem_channels": [3, *arguments["stem"]],
            "embedding_size": arguments["stem"][1],
            "stage_in_channels": [arguments["stem"][1], *out[:-1]],
            "stage_mid_channels": list(arguments["stage_inner"]),
            "stage_out_channels": out,
            "hidden_sizes": out,
            "depths": list(arguments["stage_blocks"]),
            "stage_num_blocks": list(arguments["stage_blocks"]),
            "stage_numb_of_layers": list(arguments["stage_layers"]),
            "stage_kernel_size": list(arguments["stage_kernels"]),
            "stage_light_block": [bool(light) for light in arguments["stage_light"]],
            "stage_downsample": [index > 0 for index in range(stages)],
            "stage_downsample_strides": [2] * stages,
            "use_learnable_affine_block": arguments["affine"],
            "out_indices": list(range(stages - levels + 1, stages + 1)),
        },
        "encoder_hidden_dim": dim,
        "encoder_in_channels": out[-levels:],
        "feat_strides": strides(levels),
        "encode_proj_layers": [levels - 1],
        "encoder_layers": arguments["encoder_layers"],
        "encoder_ffn_dim": arguments["encoder_ffn_dim"],
        "hidden_expansion": _expansion(arguments["fusion_dim"], dim),
        "depth_mult": arguments["fusion_blocks"] / 3,
        "d_model": arguments["dim"],
        "decoder_in_channels": [dim] * levels,
        "decoder_ffn_dim": arguments["ffn_dim"],
        "num_feature_levels": levels,
        "decoder_n_points": list(arguments["points"]),
        "decoder_layers": arguments["decoder_layers"],
        "decoder_attention_heads": arguments["heads"],
        "tie_word_embeddings": arguments["decoder_layers"] > 1,
        "max_num_bins": arguments["bins"] - 1,
        "up": arguments["reach"],
        "reg_scale": arguments["per_side"],
        "top_prob_values": arguments["quality_best"],
        "lqe_hidden_dim": arguments["quality_dim"],
        "lqe_layers": arguments["quality_layers"],
        **{theirs: arguments[ours] for ours, theirs in ARGUMENTS.items()},
        **label_settings(card.categories),
    }


def _expansion(fusion_dim: int, dim: int) -> float:
    """Return a factor from which transformers computes the width of the fusion blocks."""
    exact = 2 * fusion_dim / dim
    return exact if round(exact * dim // 2) == fusion_dim else (2 * fusion_dim + 1) / dim


def _size(preprocessing: Preprocessing) -> dict[str, int]:
    if preprocessing.size_px is not None:
        return dict(zip(("height", "width"), preprocessing.size_px, strict=True))
    return {
        "shortest_edge": preprocessing.short_side_px,
        "longest_edge": preprocessing.long_side_px,
    }


def _require_published_parts(config: Mapping[str, Any], path: Path) -> None:
    backbone = config.get("backbone_config") or {}
    strides = backbone.get("stage_downsample_strides", [2])
    halves = list(backbone.get("stage_downsample", []))
    levels = len(config.get("decoder_in_channels", [0, 0, 0]))
    last = (-1, config.get("decoder_layers", 6) - 1)
    problems = [
        *_others(config, REQUIRED),
        *(f"backbone_config.{each}" for each in _others(backbone, REQUIRED_OF_BACKBONE)),
        *(["stage_downsample_strides"] if set(strides) != {2} else []),
        *(["stage_downsample"] if halves != [i > 0 for i in range(len(halves))] else []),
        *(["eval_idx"] if config.get("eval_idx", -1) not in last else []),
        *(["num_feature_levels"] if config.get("num_feature_levels", 3) != levels else []),
    ]
    if config.get("encoder_layers", 1) and config.get("encode_proj_layers", [2]) != [levels - 1]:
        problems.append("encode_proj_layers")
    if problems:
        raise WeightsError(
            f"{path}: config.json has a value of {', '.join(problems)} that no published D-FINE "
            "has; such a model is not read"
        )


def _others(config: Mapping[str, Any], required: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} ({short(config[name])})"
        for name, value in required.items()
        if name in config and config[name] != value
    ]


def _normalized(state: State, config: Mapping[str, Any]) -> State:
    """Return the tensors under the names they have on the hub, with the heads of every layer.

    Where all layers share their heads, a file may have those of the first alone.
    """
    normalized = {}
    for variant, value in state.items():
        key = variant
        for pattern, name in VARIANTS:
            key = re.sub(pattern, name, key)
        if key not in normalized or key == variant:  # a head inside the decoder is the one used
            normalized[key] = value
    if not config.get("tie_word_embeddings", True):
        return normalized
    shared = [key for key in normalized if TIED.fullmatch(key)]
    for layer in range(1, config.get("decoder_layers", 6)):
        for key in shared:
            normalized.setdefault(key.replace("_embed.0.", f"_embed.{layer}.", 1), normalized[key])
    return normalized


def _categories(
    num_classes: int, config: Mapping[str, Any], path: Path, notes: list[str]
) -> Categories:
    named = named_categories(num_classes, config, path, notes)
    return COCO_THINGS if named.names == COCO_THINGS.names else named


def _preprocessing(folder: Path, notes: list[str]) -> Preprocessing:
    path = folder / PREPROCESSOR
    if not path.exists():
        notes.append(f"assumed the published preprocessing: there is no {path.name}")
        return PREPROCESSING
    tree = read_json(path)
    size = tree.get("size") or {}
    if not isinstance(size, dict):
        size = {"height": size, "width": size}
    normalizes = tree.get("do_normalize", False)
    values = {
        "short_side_px": size.get("shortest_edge", PREPROCESSING.short_side_px),
        "long_side_px": size.get("longest_edge", PREPROCESSING.long_side_px),
        "mean": tree["image_mean"] if normalizes else list(PREPROCESSING.mean),
        "std": tree["image_std"] if normalizes else list(PREPROCESSING.std),
        "size_px": None
        if "shortest_edge" in size
        else [size.get("height", 640), size.get("width", 640)],
    }
    return read_preprocessing(values, str(path))


LAYOUT = CheckpointLayout(
    "transformers", matches_transformers, read_transformers, write_transformers
)
