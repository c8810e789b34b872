"""DETR in transformers' layout: DetrForObjectDetection, and DetrForSegmentation with masks."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.detr.checkpoint import require_published_parts
from setmatch.models.detr.key_map import (
    TRANSFORMERS,
    TRANSFORMERS_PANOPTIC,
    has_masks,
    normalize_keys,
    with_masks,
)
from setmatch.models.weights.classes.coco import COCO_PANOPTIC_CLASSES
from setmatch.models.weights.layouts.hub_folder import (
    label_settings,
    named_categories,
    write_hub_folder,
)
from setmatch.models.weights.layouts.hybrid_folder import others
from setmatch.models.weights.layouts.key_map import State, count_parts, from_layout, to_layout
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.layouts.resnet_folder import is_dilated, preprocessing_of
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import require_stated_sizes, same
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

ARGUMENTS = {
    "num_queries": "num_queries",
    "dim": "d_model",
    "heads": "encoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "ffn_dim": "encoder_ffn_dim",
    "dropout": "dropout",
    "position": "position_embedding_type",
}
# What the model has one form of; a config with another value is of another model.
REQUIRED = {"activation_function": "relu", "num_channels": 3}
# The settings that give the shapes of tensors.
SIZES = same(
    {
        "d_model": "dim",
        "num_queries": "num_queries",
        "encoder_layers": "encoder_layers",
        "encoder_ffn_dim": "ffn_dim",
        "decoder_layers": "decoder_layers",
    }
)
BACKBONES = {"resnet50": "detr_r50", "resnet101": "detr_r101"}
PUBLISHED = "facebook/detr-"  # repositories of the authors, under the license of their code


def matches_transformers(keys: Collection[str]) -> bool:
    """Recognize the heads of transformers' DETR models; those that grew from it scale positions."""
    if "model.decoder.query_scale.layers.0.weight" in keys:
        return False
    return any(f"{masks}class_labels_classifier.weight" in keys for masks in ("", "detr."))


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote, or a file of its tensors alone.

    What the folder does not hold is assumed as published and noted, such as the name of a class
    that its labels do not name. Raises WeightsError for models other than DETR.
    """
    config = raw.settings or {}
    is_transformers = "model_type" in config or raw.path.is_dir()
    if is_transformers and config.get("model_type") != "detr":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'detr'")
    problems = others(config, REQUIRED)
    heads = config.get("encoder_attention_heads", 8)
    if config.get("decoder_attention_heads", heads) != heads:
        problems.append("decoder_attention_heads other than encoder_attention_heads")
    if problems:
        raise WeightsError(
            f"{raw.path}: config.json has a value of {', '.join(problems)} that no published DETR "
            "has; such a model is not read"
        )
    hub = normalize_keys(raw.state)
    table = TRANSFORMERS_PANOPTIC if "mask_head.out_lay.weight" in hub else TRANSFORMERS
    state = from_layout(hub, table)
    notes: list[str] = []
    learned = "embed.position.rows.weight" in state
    defaults = {
        "encoder_attention_heads": 8,
        "dropout": 0.1,
        "position_embedding_type": "learned" if learned else "sine",
    }
    num_queries, dim = state["queries.embedding.weight"].shape
    arguments = {
        "num_queries": num_queries,
        "dim": dim,
        "ffn_dim": state["decoder.layers.0.ffn.0.weight"].shape[0],
        "encoder_layers": count_parts(state, r"encoder\.layers\.(\d+)\."),
        "decoder_layers": count_parts(state, r"decoder\.layers\.(\d+)\."),
    }
    require_stated_sizes(config, arguments, SIZES)
    if not is_transformers:
        notes.append(
            "assumed 8 attention heads, dropout 0.1, no dilation and the published preprocessing: "
            "there is no config.json; to load all of it, save with save_pretrained"
        )
    for ours, theirs in ARGUMENTS.items():
        if ours not in arguments:
            arguments[ours] = config.get(theirs, defaults[theirs])
    card = ModelCard(
        _preset(state, config, raw.path),
        arguments,
        _categories(state, config, raw.path, notes),
        preprocessing_of(raw.path, notes) if is_transformers else Preprocessing(),
        license="Apache-2.0" if raw.source.startswith(PUBLISHED) else "unknown",
        source=raw.source,
    )
    return LoadedWeights(card, state, tuple(notes))


def write_transformers(card: ModelCard, state: State, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors for transformers.

    Raises WeightsError for models that transformers does not have.
    """
    masks = has_masks(state)
    if card.preset not in {
        with_masks(base + dilated, state) for base in BACKBONES.values() for dilated in ("", "_dc5")
    }:
        raise WeightsError(f"{card.preset}: transformers does not have this model")
    require_published_parts(card)
    if card.arguments.get("norm", "post") != "post":
        raise WeightsError(f"{card.preset}: transformers has no pre-norm DETR")
    arguments = {theirs: card.arguments[ours] for ours, theirs in ARGUMENTS.items()}
    config = {
        "architectures": ["DetrForSegmentation" if masks else "DetrForObjectDetection"],
        "model_type": "detr",
        "use_timm_backbone": True,
        "use_pretrained_backbone": False,
        "backbone": "resnet101" if "r101" in card.preset else "resnet50",
        "backbone_config": None,
        "dilation": "_dc5" in card.preset,
        **arguments,
        "decoder_attention_heads": card.arguments["heads"],
        "decoder_ffn_dim": card.arguments["ffn_dim"],
        **label_settings(card.categories),
    }
    preprocessing = card.preprocessing
    processor = {
        "image_processor_type": "DetrImageProcessor",
        "do_resize": True,
        "size": {
            "shortest_edge": preprocessing.short_side_px,
            "longest_edge": preprocessing.long_side_px,
        },
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    table = TRANSFORMERS_PANOPTIC if masks else TRANSFORMERS
    write_hub_folder(folder, config, processor, to_layout(state, table))


def _preset(state: State, config: Mapping[str, Any], folder: Path) -> str:
    blocks = {key.split(".")[3] for key in state if key.startswith("backbone.body.layer3.")}
    base = {6: "detr_r50", 23: "detr_r101"}.get(len(blocks))
    if base is None:
        raise WeightsError(f"{folder}: its backbone is neither ResNet-50 nor ResNet-101")
    return with_masks(f"{base}_dc5" if is_dilated(config, folder) else base, state)


def _categories(
    state: State, config: Mapping[str, Any], folder: Path, notes: list[str]
) -> Categories:
    named = named_categories(state["class_head.weight"].shape[0] - 1, config, folder, notes)
    panoptic = has_masks(state) and len(named) == len(COCO_PANOPTIC_CLASSES)
    if panoptic and named.names[1] == "person":
        return COCO_PANOPTIC_CLASSES  # config.json does not store which classes are stuff
    return named


LAYOUT = CheckpointLayout(
    "transformers",
    matches_transformers,
    read_transformers,
    write_transformers,
    family="DETR",
    table=TRANSFORMERS_PANOPTIC,
)
