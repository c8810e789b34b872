"""Files of the published code (.pth): read without running anything in them."""

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from setmatch.errors import WeightsError
from setmatch.models.weights.download import COCO_PANOPTIC_SLOTS, COCO_SLOTS, PUBLISHED
from setmatch.models.weights.key_map import (
    DEMO,
    ORIGINAL,
    ORIGINAL_PANOPTIC,
    State,
    Table,
    from_layout,
    has_masks,
    to_layout,
    with_masks,
)
from setmatch.structures.metadata import Categories, ModelCard

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


def read_original(path: Path, preset: str | None) -> tuple[ModelCard, State, list[str]]:
    """Read a .pth of the published code: its card, its tensors in our names, what was assumed.

    Raises WeightsError for files that are damaged, that hold anything but tensors and plain
    values (a pickle can run code), or that hold another model.
    """
    content = _safe_load(path)
    state, settings = _unwrap(content, path)
    table = _layout(state, path)
    demo = table is DEMO
    ours = {key: value.float() for key, value in from_layout(state, table).items()}
    notes: list[str] = []
    arguments = _arguments(ours, settings, path, notes)
    if not demo:
        arguments |= _variant(ours)
    categories = _categories(ours, notes)
    for name, published in PUBLISHED.items():
        if path.name == published.name:  # a file that is known leaves nothing to assume
            return (
                ModelCard(name, arguments, categories, license=published.license, source=name),
                ours,
                [],
            )
    name = preset or ("detr_demo" if demo else _preset(ours, settings, path, notes))
    return ModelCard(name, arguments, categories, source=path.name), ours, notes


def require_published_parts(card: ModelCard) -> None:
    """Raise WeightsError for an ablated model, of which the published code has no counterpart."""
    position, ffn = card.arguments.get("position", "sine"), card.arguments.get("ffn", "relu")
    if position not in ("sine", "learned") or ffn != "relu":
        raise WeightsError(
            f"{card.preset} with position={position}, ffn={ffn}: the layout has no such model; "
            "keep it as setmatch's"
        )


def write_original(card: ModelCard, state: State, path: Path) -> None:
    """Write {"model": tensors, "args": plain values} that the published code loads strictly.

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
            f"{card.preset}: the published code has no counterpart of this model ({error})"
        ) from None
    with path.open("wb") as file:  # given a path, torch would write its name into the file
        torch.save({"model": tensors, "args": argparse.Namespace(**settings)}, file)


def _layout(state: State, path: Path) -> Table:
    layouts = {
        "class_embed.weight": ORIGINAL,
        "detr.class_embed.weight": ORIGINAL_PANOPTIC,
        "linear_class.weight": DEMO,
    }
    for key, table in layouts.items():
        if key in state:
            return table
    raise WeightsError(f"{path}: no class_embed.weight in it; not a DETR detector's weights")


def _safe_load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"it asks to run {asked[1]}" if asked else "its pickle is not plain data"
        raise WeightsError(
            f"{path}: refused, {what}; only tensors and plain values are read"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not a whole checkpoint ({reason}); fetch it again") from None


def _unwrap(content: Any, path: Path) -> tuple[State, Mapping[str, Any] | None]:
    state, settings = content, None
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        state = content["model"]
        given = content.get("args")
        settings = vars(given) if isinstance(given, argparse.Namespace) else given
    if not isinstance(state, Mapping) or not state:
        raise WeightsError(f"{path}: expected a dictionary of tensors, got {type(state).__name__}")
    strangers = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if strangers:
        raise WeightsError(f"{path}: {strangers[0]} is no tensor; not a file of the published code")
    return {str(key).removeprefix("module."): value for key, value in state.items()}, settings


def _arguments(
    ours: State, settings: Mapping[str, Any] | None, path: Path, notes: list[str]
) -> dict[str, Any]:
    """Take the shape from the tensors where they show it, else from the file's args."""
    try:
        arguments = {
            "num_queries": ours["queries.embedding.weight"].shape[0],
            "dim": ours["queries.embedding.weight"].shape[1],
            "encoder_layers": _count(ours, r"encoder\.layers\.(\d+)\."),
            "decoder_layers": _count(ours, r"decoder\.layers\.(\d+)\."),
            "ffn_dim": ours["decoder.layers.0.ffn.0.weight"].shape[0],
        }
    except KeyError as error:
        raise WeightsError(f"{path}: the tensor {error} is missing; not a whole detector") from None
    known = settings or {}
    arguments["heads"] = known.get("nheads", 8)
    arguments["dropout"] = known.get("dropout", 0.1)
    if "nheads" not in known:
        notes.append(
            "assumed 8 attention heads and dropout 0.1, as published: the file does not say"
        )
    return arguments


def _variant(ours: State) -> dict[str, str]:
    return {
        "position": "learned" if "embed.position.rows.weight" in ours else "sine",
        "norm": "pre" if "encoder.norm.weight" in ours else "post",
    }


def _preset(ours: State, settings: Mapping[str, Any] | None, path: Path, notes: list[str]) -> str:
    blocks = _count(ours, r"backbone\.body\.layer3\.(\d+)\.")
    trunk = {6: "detr_r50", 23: "detr_r101"}.get(blocks)
    if trunk is None or "backbone.body.layer1.0.conv3.weight" not in ours:
        raise WeightsError(f"{path}: its trunk is neither ResNet-50 nor ResNet-101")
    if settings is None or "dilation" not in settings:
        notes.append(
            f"assumed {trunk}, not its dilated form {trunk}_dc5: pass preset= to say otherwise"
        )
        return with_masks(trunk, ours)
    return with_masks(f"{trunk}_dc5" if settings["dilation"] else trunk, ours)


def _categories(ours: State, notes: list[str]) -> Categories:
    class_indices = ours["class_head.weight"].shape[0] - 1
    for known, name in ((COCO_SLOTS, "COCO's"), (COCO_PANOPTIC_SLOTS, "COCO panoptic's")):
        if class_indices == len(known) and has_masks(ours) == (known is COCO_PANOPTIC_SLOTS):
            notes.append(
                f"assumed {name} class names: the file has {class_indices} slots and no names"
            )
            return known
    notes.append(
        f"the file names none of its {class_indices} class slots: pass categories= to name them"
    )
    return Categories(tuple(range(class_indices)), (None,) * class_indices)


def _count(state: State, pattern: str) -> int:
    found = {int(match[1]) for key in state if (match := re.match(pattern, key))}
    return max(found, default=-1) + 1
