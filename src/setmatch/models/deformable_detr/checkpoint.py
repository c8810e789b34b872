"""Checkpoints of Deformable DETR's published code (.pth), and what both layouts have in common."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from setmatch.errors import WeightsError
from setmatch.models.deformable_detr.key_map import HEAD, ORIGINAL
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.layouts.hybrid_folder import rows
from setmatch.models.weights.layouts.key_map import (
    State,
    Table,
    count_parts,
    from_layout,
    with_every_head,
)
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.layouts.resnet_folder import resnet_of
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

HEADS, NUM_QUERIES = 8, 300  # of every published model
TWO_STAGES = "queries.expand.0.weight"
SETTINGS = {  # our arguments that no tensor shows, and their names and values in the authors' code
    "heads": ("nheads", HEADS),
    "encoder_heads": ("nheads", HEADS),
    "dropout": ("dropout", 0.1),
    "num_queries": ("num_queries", NUM_QUERIES),
}


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the encodings of levels, and the deformable attention of the decoder."""
    part = "transformer.decoder.layers.0.cross_attn.sampling_offsets.weight"
    return "transformer.level_embed" in keys and part in keys and "class_embed.0.weight" in keys


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code; what it does not store is assumed and noted."""
    settings = raw.settings or {}
    inside = any(key.startswith("transformer.decoder.bbox_embed.") for key in raw.state)
    state = our_state(raw.state, ORIGINAL, raw.path, refines=inside)
    names = {ours: theirs for ours, (theirs, _) in SETTINGS.items()}
    notes: list[str] = []
    missing = sorted({theirs for theirs in names.values() if theirs not in settings})
    if missing:
        notes.append(f"assumed {', '.join(missing)} as published: the file does not store them")
    known = {ours: settings.get(theirs, default) for ours, (theirs, default) in SETTINGS.items()}
    arguments = arguments_of(state, known, raw.path)
    dilated = bool(settings.get("dilation"))
    num_classes = len(state[class_head_of(state)])
    card = ModelCard(
        preset_of(state, arguments, dilated, raw.path),
        arguments,
        assumed_categories(num_classes, "COCO's", [COCO_CLASSES, COCO_THINGS], notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), {})


def our_state(theirs: State, table: Table, path: Path, refines: bool) -> State:
    """Return the tensors in our names, with one pair of heads or one for each decoder layer.

    Both codes store heads for every layer, and twice if boxes are refined. Raises WeightsError if
    heads differ that the published model shares.
    """
    kept: State = {}
    for key, value in theirs.items():
        name = HEAD.sub(r"\g<kind>_embed.\g<layer>.", key)
        if name in kept and not torch.equal(kept[name], value):
            raise WeightsError(
                f"{path}: {name} differs inside and outside of the decoder, as in no published "
                "Deformable DETR"
            )
        kept[name] = value
    ours = from_layout(kept, table)
    layers = count_parts(ours, r"decoder\.layers\.(\d+)\.")
    for head in ("decoder.class_heads.{}.", "decoder.box_steps.{}."):
        ours = with_every_head(ours, head, layers + (TWO_STAGES in ours))
    if TWO_STAGES in ours:
        return _with_encoder_heads(ours, layers)
    return ours if refines else _with_shared_heads(ours, path)


def arguments_of(ours: State, known: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return all arguments; `known` are those that no tensor shows.

    Raises KeyError for a missing tensor.
    """
    levels, dim = ours["encoder.level"].shape
    heads, encoder_heads = (max(known[name], 1) for name in ("heads", "encoder_heads"))
    arguments = {
        **known,
        "backbone": resnet_of(ours, path),
        "levels": levels,
        "dim": dim,
        "encoder_layers": count_parts(ours, r"encoder\.sampling_layers\.(\d+)\."),
        "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
        "points": rows(ours, "decoder.layers.0.cross_attention.attention") // (heads * levels),
        "ffn_dim": rows(ours, "decoder.layers.0.ffn.0"),
    }
    if arguments["encoder_layers"]:
        sampled = rows(ours, "encoder.sampling_layers.0.sampling.attention")
        arguments["encoder_points"] = sampled // (encoder_heads * levels)
        arguments["encoder_ffn_dim"] = rows(ours, "encoder.sampling_layers.0.ffn.0")
    if "queries.embedding.weight" in ours:
        arguments["num_queries"] = rows(ours, "queries.embedding")
    return arguments


def class_head_of(ours: State) -> str:
    """Return the name of the weights of a class head of the decoder."""
    shared = "decoder.class_head.weight"
    return shared if shared in ours else "decoder.class_heads.0.weight"


def preset_of(ours: State, arguments: Mapping[str, Any], dilated: bool, path: Path) -> str:
    """Return the preset of tensors in our names; raises WeightsError if there is none."""
    single = arguments["levels"] == 1
    shared = "decoder.class_head.weight" in ours
    if dilated and not (single and shared):
        raise WeightsError(
            f"{path}: has a dilated backbone (dilation), as only the model of a single level is "
            "published with; it is not read"
        )
    if TWO_STAGES in ours:
        return "deformable_detr_r50_two_stage"
    if not shared:
        return "deformable_detr_r50_refine"
    if single:
        return f"deformable_detr_r50_single_scale{'_dc5' if dilated else ''}"
    return "deformable_detr_r50"


def _with_encoder_heads(ours: State, layers: int) -> State:
    """Return the heads after the last layer as the encoder's, which has a single class."""
    moved = {}
    for key, value in ours.items():
        name = key.replace(f"decoder.class_heads.{layers}.", "queries.class_head.")
        name = name.replace(f"decoder.box_steps.{layers}.", "queries.box_step.")
        moved[name] = value[:1] if name.startswith("queries.class_head.") else value
    return moved


def _with_shared_heads(ours: State, path: Path) -> State:
    """Return the heads of all layers as one pair; raises WeightsError if they differ."""
    shared: State = {}
    for key, value in ours.items():
        first, _, rest = key.partition("s.")
        if first not in ("decoder.class_head", "decoder.box_step"):
            shared[key] = value
            continue
        name = f"{first}.{rest.partition('.')[2]}"
        if name in shared and not torch.equal(shared[name], value):
            raise WeightsError(
                f"{path}: decoder layers have heads of their own, but boxes are not refined; no "
                "published Deformable DETR is like that"
            )
        shared[name] = value
    return shared


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    family="Deformable DETR",
    table=ORIGINAL,
)
