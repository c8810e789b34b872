"""Checkpoints of the published DETR code (.pth)."""

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from setmatch.errors import WeightsError
from setmatch.models.detr.key_map import DEMO, ORIGINAL, ORIGINAL_PANOPTIC, has_masks, with_masks
from setmatch.models.weights.classes.coco import (
    COCO_CLASSES,
    COCO_PANOPTIC_CLASSES,
    assumed_categories,
)
from setmatch.models.weights.downloads.download import PublishedCheckpoint, fetch
from setmatch.models.weights.layouts.key_map import State, count_parts, from_layout, to_layout
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_pth
from setmatch.structures.metadata import Categories, ModelCard

URL = "https://dl.fbaipublicfiles.com/detr/"
FILES = {
    "detr_r50": "detr-r50-e632da11.pth",
    "detr_r50_dc5": "detr-r50-dc5-f0fb7ef5.pth",
    "detr_r101": "detr-r101-2c7b67e5.pth",
    "detr_r101_dc5": "detr-r101-dc5-a2e86def.pth",
    "detr_r50_panoptic": "detr-r50-panoptic-00ce5173.pth",
    "detr_r50_dc5_panoptic": "detr-r50-dc5-panoptic-da08f1b1.pth",
    "detr_r101_panoptic": "detr-r101-panoptic-40021d53.pth",
    "detr_demo": "detr_demo-da2a99e9.pth",
}
PUBLISHED = {name: PublishedCheckpoint(URL + file, "Apache-2.0") for name, file in FILES.items()}

# The tensor that tells a layout from the others.
TABLES = {
    "class_embed.weight": ORIGINAL,
    "detr.class_embed.weight": ORIGINAL_PANOPTIC,
    "linear_class.weight": DEMO,
}

# In checkpoints of code that was derived from DETR's: boxes as queries, and scaled positions.
GROWN = (
    "refpoint_embed.weight",
    "model.reference_point_embed.weight",
    "transformer.decoder.query_scale.layers.0.weight",
    "model.decoder.query_scale.layers.0.weight",
)

ARGUMENTS = {
    "num_queries": "num_queries",
    "dim": "hidden_dim",
    "heads": "nheads",
    "encoder_layers": "enc_layers",
    "decoder_layers": "dec_layers",
    "ffn_dim": "dim_feedforward",
    "dropout": "dropout",
    "position": "position_embedding",
}


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the published code's detectors, with masks and without, and the paper's demo.

    Codes that grew from it have the same names of heads, and other queries.
    """
    return any(key in keys for key in TABLES) and not any(key in keys for key in GROWN)


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code.

    What the file does not hold is assumed as published and noted. Raises WeightsError for another
    model.
    """
    table = next(table for key, table in TABLES.items() if key in raw.state)
    state = from_layout(raw.state, table)
    notes: list[str] = []
    arguments = _arguments(state, raw.settings, raw.path, notes)
    if table is not DEMO:
        arguments |= _variant(state)
    categories = _categories(state, notes)
    for name, published in PUBLISHED.items():
        if raw.path.name == published.name:  # nothing to assume for a published file
            card = ModelCard(name, arguments, categories, license=published.license, source=name)
            return LoadedWeights(card, state)
    name = raw.preset or (
        "detr_demo" if table is DEMO else _preset(state, raw.settings, raw.path, notes)
    )
    card = ModelCard(name, arguments, categories, source=raw.source)
    return LoadedWeights(card, state, tuple(notes))


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_original(read_pth(fetch(name, PUBLISHED[name])))


def require_published_parts(card: ModelCard) -> None:
    """Raise WeightsError for ablations that the published code does not have."""
    position, ffn = card.arguments.get("position", "sine"), card.arguments.get("ffn", "relu")
    if position not in ("sine", "learned") or ffn != "relu":
        raise WeightsError(
            f"{card.preset} with position={position}, ffn={ffn}: the layout has no such model; "
            "save it in setmatch's layout"
        )


def write_original(card: ModelCard, state: State, path: Path) -> None:
    """Write {"model": tensors, "args": plain values}, which the published code loads strictly.

    Raises WeightsError for a model that the published code cannot build.
    """
    require_published_parts(card)
    masks = has_masks(state)
    table = DEMO if card.preset == "detr_demo" else ORIGINAL_PANOPTIC if masks else ORIGINAL
    settings = {
        theirs: card.arguments[ours] for ours, theirs in ARGUMENTS.items() if ours in card.arguments
    }
    settings |= {
        "backbone": "resnet101" if "r101" in card.preset else "resnet50",
        "dilation": "_dc5" in card.preset,
        "pre_norm": card.arguments.get("norm") == "pre",
        "masks": masks,
        "aux_loss": True,
    }
    try:
        tensors = to_layout(state, table)
    except WeightsError as error:
        raise WeightsError(
            f"{card.preset}: the published code cannot build this model ({error})"
        ) from None
    with path.open("wb") as file:  # given a path, torch would write its name into the file
        torch.save({"model": tensors, "args": argparse.Namespace(**settings)}, file)


def _arguments(
    ours: State, settings: Mapping[str, Any] | None, path: Path, notes: list[str]
) -> dict[str, Any]:
    """Read the arguments from the tensors' shapes, else from the file's args."""
    try:
        arguments = {
            "num_queries": ours["queries.embedding.weight"].shape[0],
            "dim": ours["queries.embedding.weight"].shape[1],
            "encoder_layers": count_parts(ours, r"encoder\.layers\.(\d+)\."),
            "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
            "ffn_dim": ours["decoder.layers.0.ffn.0.weight"].shape[0],
        }
    except KeyError as error:
        raise WeightsError(
            f"{path}: the tensor {error} is missing; the checkpoint is incomplete"
        ) from None
    known = settings or {}
    arguments["heads"] = known.get("nheads", 8)
    arguments["dropout"] = known.get("dropout", 0.1)
    if "nheads" not in known:
        notes.append(
            "assumed 8 attention heads and dropout 0.1, as published: the file does not store them"
        )
    return arguments


def _variant(ours: State) -> dict[str, str]:
    return {
        "position": "learned" if "embed.position.rows.weight" in ours else "sine",
        "norm": "pre" if "encoder.norm.weight" in ours else "post",
    }


def _preset(ours: State, settings: Mapping[str, Any] | None, path: Path, notes: list[str]) -> str:
    blocks = count_parts(ours, r"backbone\.body\.layer3\.(\d+)\.")
    base = {6: "detr_r50", 23: "detr_r101"}.get(blocks)
    if base is None or "backbone.body.layer1.0.conv3.weight" not in ours:
        raise WeightsError(f"{path}: its backbone is neither ResNet-50 nor ResNet-101")
    if settings is None or "dilation" not in settings:
        notes.append(f"assumed {base}, not its dilated form {base}_dc5: pass preset= to choose")
        return with_masks(base, ours)
    return with_masks(f"{base}_dc5" if settings["dilation"] else base, ours)


def _categories(ours: State, notes: list[str]) -> Categories:
    num_classes = ours["class_head.weight"].shape[0] - 1
    if has_masks(ours):
        return assumed_categories(num_classes, "COCO panoptic's", [COCO_PANOPTIC_CLASSES], notes)
    return assumed_categories(num_classes, "COCO's", [COCO_CLASSES], notes)


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    write_original,
    family="DETR",
    table=ORIGINAL_PANOPTIC,
)
