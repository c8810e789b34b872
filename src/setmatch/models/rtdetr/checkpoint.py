"""Checkpoints of the published codes of RT-DETR and RT-DETRv2 (.pth)."""

from collections.abc import Collection
from pathlib import Path

import torch

from setmatch.errors import WeightsError
from setmatch.models.rtdetr.key_map import ORIGINAL, ORIGINAL_EITHER, ORIGINAL_V2
from setmatch.models.rtdetr.tensor_shapes import COMPUTED, arguments_of, is_v2, nearest_preset
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.layouts.hybrid_folder import (
    HEADS,
    NUM_QUERIES,
    PREPROCESSING,
    anchors,
    points_of,
    points_scale,
    strides,
    with_denoising,
    without_backbone_counters,
)
from setmatch.models.weights.layouts.key_map import (
    State,
    from_layout,
    to_layout,
    with_batch_counters,
)
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

SCALE = "decoder.decoder.layers.{}.cross_attn.num_points_scale"
# Arguments that the published code has in its configuration alone.
UNSTORED = (
    *("num_queries", "heads", "encoder_heads", "eval_layers", "eval_positions"),
    *("offset_scale", "nearest", "denoising_queries"),
)
COUNTER = "backbone.conv1.conv1_1.norm.num_batches_tracked"


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the class heads and the projected sampling of the published decoder."""
    parts = ("decoder.dec_score_head.0", "decoder.decoder.layers.0.cross_attn.value_proj")
    return all(f"{part}.weight" in keys for part in parts)


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published codes, which store neither heads of attention nor classes."""
    kept = {key: value for key, value in raw.state.items() if not COMPUTED.fullmatch(key)}
    notes: list[str] = []
    settings = {key: value for key, value in (raw.settings or {}).items() if key in UNSTORED}
    if not settings:
        notes.append(
            f"assumed {NUM_QUERIES} queries, {HEADS} attention heads and images of 640x640 pixels, "
            "as published: the file does not store them"
        )
    state = with_denoising(with_batch_counters(from_layout(kept, ORIGINAL_EITHER)), notes)
    scale = raw.state.get(SCALE.format(0))
    points = None if scale is None else points_of(scale)
    arguments = {
        **arguments_of(state, points, settings.get("heads")),
        "num_queries": NUM_QUERIES,
        "encoder_heads": HEADS,
        "frozen_norms": COUNTER not in raw.state,
        **settings,
    }
    if points is not None and "nearest" not in settings:
        arguments["nearest"] = any("_dsp" in name for name in raw.names)
        how = "the nearest cells" if arguments["nearest"] else "between cells"
        notes.append(f"assumed sampling of {how}, by the name of the file")
    num_classes = len(state["queries.class_head.weight"])
    card = ModelCard(
        nearest_preset(arguments, points is not None),
        arguments,
        assumed_categories(num_classes, "COCO's", [COCO_THINGS, COCO_CLASSES], notes),
        PREPROCESSING,
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), {})


def write_original(card: ModelCard, state: State, path: Path) -> None:
    """Write {"model": tensors}, which the published code loads strictly at its image size.

    What the tensors do not show is beside them, under "args".
    """
    arguments = card.arguments
    points, extra = arguments["points"], arguments["extra_levels"]
    if extra > 1:
        raise WeightsError(
            f"{card.preset}: the published code makes other levels beyond the first of its "
            f"extra_levels = {extra}; write it as setmatch"
        )
    if arguments["frozen_norms"]:
        state = without_backbone_counters(state)
    v2 = is_v2(arguments)
    tensors = to_layout(state, ORIGINAL_V2 if v2 else ORIGINAL)
    if v2:
        for layer in range(arguments["decoder_layers"]):
            tensors[SCALE.format(layer)] = points_scale(points)
        places, inside = anchors(
            strides(len(points), 32 << extra), card.preprocessing.size_px or (640, 640)
        )
        tensors |= {"decoder.anchors": places, "decoder.valid_mask": inside}
    elif len(set(points)) > 1:
        raise WeightsError(
            f"{card.preset}: RT-DETR's code has as many points on every level, not points = "
            f"{list(points)}; write it as setmatch"
        )
    with path.open("wb") as file:  # given a path, torch would write its name into the file
        settings = {name: arguments[name] for name in UNSTORED if name in arguments}
        torch.save({"model": tensors, "args": settings}, file)


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    write_original,
    family="RT-DETR",
    table=ORIGINAL_EITHER,
)
