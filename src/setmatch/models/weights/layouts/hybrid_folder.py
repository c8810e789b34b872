"""What checkpoints of RT-DETR and D-FINE share: preprocessing, settings, and computed tensors."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import WeightsError, short
from setmatch.models.layers.encoders.hybrid_encoder import Memory
from setmatch.models.layers.queries.queries import AnchorSelection, anchor_boxes
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.classes.coco import with_coco_ids
from setmatch.models.weights.downloads.download import PublishedRepository, fetch_published
from setmatch.models.weights.layouts.hub_folder import PREPROCESSOR, named_categories
from setmatch.models.weights.layouts.key_map import State, with_every_head
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_hub_folder, read_json
from setmatch.models.weights.stated_sizes import same
from setmatch.structures.metadata import Categories, Preprocessing

PREPROCESSING = Preprocessing(640, 640, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (640, 640))
HEADS, NUM_QUERIES = 8, 300  # of every published model; the authors' files do not store them
# Our names of arguments that no tensor shows, those of config.json, and their values by default.
ARGUMENTS = {
    "num_queries": ("num_queries", 300),
    "encoder_heads": ("encoder_attention_heads", 8),
    "frozen_norms": ("freeze_backbone_batch_norms", True),
    "denoising_queries": ("num_denoising", 100),
    "label_noise": ("label_noise_ratio", 0.5),
    "box_noise": ("box_noise_scale", 1.0),
}
# What the models have one form of; a config with another value is of another model.
REQUIRED = {
    "layer_norm_eps": 1e-5,
    "batch_norm_eps": 1e-5,
    "normalize_before": False,
    "encoder_activation_function": "gelu",
    "activation_function": "silu",
    "decoder_activation_function": "relu",
    "learn_initial_query": False,
    "positional_encoding_temperature": 10000,
}
# The settings that give the shapes of tensors.
SIZES = same(
    {
        "encoder_hidden_dim": "encoder_dim",
        "encoder_layers": "encoder_layers",
        "encoder_ffn_dim": "encoder_ffn_dim",
        "d_model": "dim",
        "decoder_layers": "decoder_layers",
        "decoder_ffn_dim": "ffn_dim",
        "decoder_attention_heads": "heads",
    }
)
# Other names of the same tensors: in memory since transformers 5, and of the heads outside.
VARIANTS = (
    (r"^(class_embed|bbox_embed)\.", r"model.decoder.\1."),
    (r"\.encoder\.aifi\.", ".encoder.encoder."),
    (r"\.o_proj\.", ".out_proj."),
    (r"\.layers\.(\d+)\.mlp\.layers\.0\.", r".layers.\1.fc1."),
    (r"\.layers\.(\d+)\.mlp\.layers\.1\.", r".layers.\1.fc2."),
    (r"\.layers\.(\d+)\.mlp\.(fc[12])\.", r".layers.\1.\2."),
)
TIED = re.compile(r"model\.decoder\.(?:class|bbox)_embed\.0\..+")


def fetch_folder(name: str, published: PublishedRepository) -> RawCheckpoint:
    """Download and read the folder that is published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    folder = fetch_published(name, published)
    return read_hub_folder(folder, published.repository, name)


def hub_names(state: State, config: Mapping[str, Any]) -> State:
    """Return the tensors under the names they have on the hub, with the heads of every layer.

    Where all layers share their heads, a file may have those of the first alone.
    """
    normalized: State = {}
    for variant, value in state.items():
        key = variant
        for pattern, name in VARIANTS:
            key = re.sub(pattern, name, key)
        if key not in normalized or key == variant:  # a head inside the decoder is the one used
            normalized[key] = value
    if not config.get("tie_word_embeddings", True):
        return normalized
    for kind in ("class", "bbox"):
        head, layers = f"model.decoder.{kind}_embed.{{}}.", config.get("decoder_layers", 6)
        normalized = with_every_head(normalized, head, layers)
    return normalized


def without_ties(tensors: State, layers: int) -> State:
    """Return the tensors with the heads of a single layer twice: transformers cannot tie one."""
    if layers > 1:
        return tensors
    return tensors | {
        key.removeprefix("model.decoder."): value.clone()
        for key, value in tensors.items()
        if TIED.fullmatch(key)
    }


def with_denoising(state: State, notes: list[str]) -> State:
    """Return our tensors with an embedding for denoising, which is zero if the file has none."""
    if "denoising.embedding.weight" in state:
        return state
    notes.append("there is no embedding for denoising in the file: it starts at zero")
    classes, dim = state["queries.class_head.weight"].shape
    return state | {"denoising.embedding.weight": torch.zeros(classes + 1, dim)}


def arguments_from(
    config: Mapping[str, Any], names: Mapping[str, tuple[str, Any]] = ARGUMENTS
) -> dict[str, Any]:
    """Return the arguments that config.json has, by our names."""
    values = {ours: config.get(theirs, default) for ours, (theirs, default) in names.items()}
    if not values.get("denoising_queries", True):
        values["denoising_queries"] = names["denoising_queries"][1]
    return values


def settings_from(
    arguments: Mapping[str, Any], names: Mapping[str, tuple[str, Any]] = ARGUMENTS
) -> dict[str, Any]:
    """Return what config.json says of our arguments."""
    return {theirs: arguments[ours] for ours, (theirs, _) in names.items()}


def require_published(
    problems: Collection[str], config: Mapping[str, Any], path: Path, family: str
) -> None:
    """Raise WeightsError for settings of other models, and for other `problems`."""
    found = [*others(config, REQUIRED), *problems]
    levels = len(config.get("decoder_in_channels", [0, 0, 0]))
    if config.get("encoder_layers", 1) and list(config.get("encode_proj_layers", [2])) != [
        levels - 1
    ]:
        found.append("encode_proj_layers")
    if found:
        raise WeightsError(
            f"{path}: config.json has a value of {', '.join(found)} that no published {family} "
            "has; such a model is not read"
        )


def others(config: Mapping[str, Any], required: Mapping[str, Any]) -> list[str]:
    """Return the settings whose values are not those that are `required`."""
    return [
        f"{name} ({short(config[name])})"
        for name, value in required.items()
        if name in config and config[name] != value
    ]


def require_args(raw: RawCheckpoint, required: Mapping[str, Any], family: str) -> None:
    """Raise WeightsError for a .pth whose args state another form of the model than `required`."""
    if problems := others(raw.settings or {}, required):
        raise WeightsError(
            f"{raw.path}: its args have a value of {', '.join(problems)} that no published "
            f"{family} has; such a model is not read"
        )


def processor_settings(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return what preprocessor_config.json says of the images of a model."""
    if preprocessing.size_px is not None:
        size = dict(zip(("height", "width"), preprocessing.size_px, strict=True))
    else:
        size = {
            "shortest_edge": preprocessing.short_side_px,
            "longest_edge": preprocessing.long_side_px,
        }
    return {
        "image_processor_type": "RTDetrImageProcessor",
        "do_resize": True,
        "size": size,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": preprocessing.mean != PREPROCESSING.mean
        or preprocessing.std != PREPROCESSING.std,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }


def preprocessing_of(folder: Path, notes: list[str]) -> Preprocessing:
    """Return the preprocessing of a folder, or the published one, which is noted."""
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


def categories_of(
    num_classes: int, config: Mapping[str, Any], path: Path, notes: list[str]
) -> Categories:
    """Return the classes that config.json names, which are COCO's with their ids if all agree."""
    return with_coco_ids(named_categories(num_classes, config, path, notes))


def expansion(inner: int, dim: int) -> float:
    """Return a factor for which int(factor · dim) is `inner`."""
    exact = inner / dim
    return exact if int(exact * dim) == inner else (inner + 0.5) / dim


def points_scale(points: tuple[int, ...]) -> Float[Tensor, " P"]:
    """Return what the published codes store of the sampling points: 1 / their number for each."""
    return torch.tensor([1 / count for count in points for _ in range(count)])


def points_of(scale: Float[Tensor, " P"]) -> tuple[int, ...]:
    """Return the sampling points of each level, from 1 / their number for each of them."""
    points, at = [], 0
    while at < len(scale):
        points.append(round(1 / scale[at].item()))
        at += points[-1]
    return tuple(points)


def strides(levels: int, last: int = 32) -> list[int]:
    """Return the strides of levels, each twice that of the one before, up to the `last`."""
    return [last >> level for level in reversed(range(levels))]


def anchors(strides: list[int], size_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the logits of the anchors of an image size, and which of them are used."""
    shapes = tuple((size_px[0] // stride, size_px[1] // stride) for stride in strides)
    memory = Memory(torch.zeros(1, 0, 1), shapes)
    boxes = anchor_boxes(memory, AnchorSelection.finest_side)
    inside = AnchorSelection.inside(boxes)
    return torch.where(inside, torch.logit(boxes), torch.inf), inside


def without_backbone_counters(state: State) -> State:
    """Return the tensors without the counters that frozen batch norms do not have."""
    return {
        key: value
        for key, value in state.items()
        if not (key.startswith("backbone.") and key.endswith("num_batches_tracked"))
    }


def rows(ours: State, name: str) -> int:
    """Return the number of outputs of a layer."""
    return ours[f"{name}.weight"].shape[0]
