"""Folders and hub repositories in transformers' layout: DetrForObjectDetection, with or without
the masks of DetrForSegmentation.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from setmatch.errors import WeightsError
from setmatch.models.detr.checkpoint import require_published_parts
from setmatch.models.weights.download import COCO_PANOPTIC_SLOTS
from setmatch.models.weights.key_map import (
    TRANSFORMERS,
    TRANSFORMERS_PANOPTIC,
    State,
    from_layout,
    has_masks,
    normalize_keys,
    to_layout,
    with_masks,
)
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
BACKBONES = {"resnet50": "detr_r50", "resnet101": "detr_r101"}
FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


def fetch_hub(repository: str) -> Path:
    """Return the folder of a hub repository, downloaded once by huggingface_hub.

    Raises WeightsError that says what to fetch when there is no network or no such repository.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, allow_patterns=FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{repository}: neither a file or folder here nor to be had from the hub ({reason}); "
            f"fetch {', '.join(FILES)} of it elsewhere into one folder and load that folder"
        ) from None


def read_transformers(folder: Path, source: str) -> tuple[ModelCard, State, list[str]]:
    """Read a folder that transformers has written: card, tensors in our names, what was assumed.

    Raises WeightsError for models other than DETR's detector, and for damaged files.
    """
    config = _json(folder / "config.json")
    if config.get("model_type") != "detr":
        kind = config.get("model_type")
        raise WeightsError(f"{folder}: config.json says model_type {kind!r}; only detr is read")
    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder}/model.safetensors: cannot be read ({error})") from None
    hub = normalize_keys(tensors)
    table = TRANSFORMERS_PANOPTIC if "mask_head.out_lay.weight" in hub else TRANSFORMERS
    state = {key: value.float() for key, value in from_layout(hub, table).items()}
    notes: list[str] = []
    defaults = {"encoder_attention_heads": 8, "dropout": 0.1, "position_embedding_type": "sine"}
    arguments = {
        "num_queries": state["queries.embedding.weight"].shape[0],
        "dim": state["queries.embedding.weight"].shape[1],
        "ffn_dim": state["decoder.layers.0.ffn.0.weight"].shape[0],
    }
    for ours, theirs in ARGUMENTS.items():
        if ours not in arguments:
            arguments[ours] = config.get(theirs, defaults.get(theirs, 6))
    card = ModelCard(
        _preset(state, config, folder),
        arguments,
        _categories(state, config),
        _preprocessing(folder, notes),
        license="Apache-2.0" if source.startswith("facebook/detr-") else "unknown",
        source=source,
    )
    return card, state, notes


def write_transformers(card: ModelCard, state: State, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors for transformers.

    Raises WeightsError for models that transformers has no counterpart of.
    """
    masks = has_masks(state)
    if card.preset not in {
        with_masks(t + d, state) for t in BACKBONES.values() for d in ("", "_dc5")
    }:
        raise WeightsError(f"{card.preset}: transformers has no counterpart of this model")
    require_published_parts(card)
    if card.arguments.get("norm", "post") != "post":
        raise WeightsError(f"{card.preset}: transformers has no pre-norm DETR")
    names = {
        class_index: card.categories.names[class_index] or "N/A"
        for class_index in range(len(card.categories))
    }
    shape = {theirs: card.arguments[ours] for ours, theirs in ARGUMENTS.items()}
    config = {
        "architectures": ["DetrForSegmentation" if masks else "DetrForObjectDetection"],
        "model_type": "detr",
        "use_timm_backbone": True,
        "use_pretrained_backbone": False,
        "backbone": "resnet101" if "r101" in card.preset else "resnet50",
        "backbone_config": None,
        "dilation": "_dc5" in card.preset,
        **shape,
        "decoder_attention_heads": card.arguments["heads"],
        "decoder_ffn_dim": card.arguments["ffn_dim"],
        "id2label": {str(class_index): name for class_index, name in names.items()},
        "label2id": {name: class_index for class_index, name in names.items()},
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
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(
        json.dumps(processor, indent=2), encoding="utf-8"
    )
    table = TRANSFORMERS_PANOPTIC if masks else TRANSFORMERS
    tensors = {key: value.contiguous() for key, value in to_layout(state, table).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: expected a JSON object")
    return tree


def _preset(state: State, config: dict[str, Any], folder: Path) -> str:
    blocks = {key.split(".")[3] for key in state if key.startswith("backbone.body.layer3.")}
    trunk = {6: "detr_r50", 23: "detr_r101"}.get(len(blocks))
    if trunk is None:
        raise WeightsError(f"{folder}: its trunk is neither ResNet-50 nor ResNet-101")
    return with_masks(f"{trunk}_dc5" if config.get("dilation") else trunk, state)


def _categories(state: State, config: dict[str, Any]) -> Categories:
    class_indices = state["class_head.weight"].shape[0] - 1
    labels = {
        int(class_index): str(name) for class_index, name in (config.get("id2label") or {}).items()
    }
    if has_masks(state) and class_indices == len(COCO_PANOPTIC_SLOTS) and labels.get(1) == "person":
        return COCO_PANOPTIC_SLOTS  # config.json has no place for which of the classes are stuff
    names = tuple(
        None if labels.get(s) in (None, "N/A") else labels[s] for s in range(class_indices)
    )
    return Categories(tuple(range(class_indices)), names)


def _preprocessing(folder: Path, notes: list[str]) -> Preprocessing:
    path = folder / "preprocessor_config.json"
    if not path.exists():
        notes.append(f"assumed the published preprocessing: there is no {path.name}")
        return Preprocessing()
    tree = _json(path)
    size = tree.get("size", {})
    if not isinstance(size, dict):  # as older processors wrote it
        size = {"shortest_edge": size, "longest_edge": tree.get("max_size")}
    usual = Preprocessing()
    red, green, blue = tree.get("image_mean", usual.mean)
    spread_red, spread_green, spread_blue = tree.get("image_std", usual.std)
    return Preprocessing(
        size.get("shortest_edge") or usual.short_side_px,
        size.get("longest_edge") or usual.long_side_px,
        (red, green, blue),
        (spread_red, spread_green, spread_blue),
    )
