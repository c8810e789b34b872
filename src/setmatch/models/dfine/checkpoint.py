"""Checkpoints of D-FINE's published code (.pth), and of DEIM's, which has the same model."""

from collections.abc import Collection
from pathlib import Path

import torch

from setmatch.models.dfine.key_map import ORIGINAL
from setmatch.models.dfine.tensor_shapes import COMPUTED, arguments_of, nearest_preset
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.layouts.hybrid_folder import (
    HEADS,
    NUM_QUERIES,
    PREPROCESSING,
    anchors,
    points_of,
    points_scale,
    strides,
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

# The authors release these files, and no others, under the license of their code.
LICENSES = {f"dfine_{size}_coco.pth": "Apache-2.0" for size in "nsmlx"}
SCALE = "decoder.decoder.layers.{}.cross_attn.num_points_scale"
# Arguments that the published code has in its configuration alone.
UNSTORED = (
    *("num_queries", "encoder_heads", "offset_scale", "denoising_queries"),
    *("class_loss", "activation"),
)


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the box and class heads of the published decoder; that of DEIMv2 has gates."""
    heads = ("decoder.pre_bbox_head.layers.0.weight", "decoder.dec_score_head.0.weight")
    gates = "decoder.decoder.layers.0.swish_ffn.w12.weight"
    return all(head in keys for head in heads) and gates not in keys


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code, which stores neither heads of attention nor classes."""
    kept = {key: value for key, value in raw.state.items() if not COMPUTED.fullmatch(key)}
    state = with_batch_counters(from_layout(kept, ORIGINAL))
    is_deim = any("deim" in name.lower() for name in raw.names)
    settings = {key: value for key, value in (raw.settings or {}).items() if key in UNSTORED}
    arguments = {
        **arguments_of(state, points_of(raw.state[SCALE.format(0)])),
        "num_queries": NUM_QUERIES,
        "encoder_heads": HEADS,
        "class_loss": "matchability" if is_deim else "varifocal",
        "activation": "silu" if is_deim else "relu",
        "frozen_norms": "backbone.stem.stem1.bn.num_batches_tracked" not in raw.state,
        **settings,
    }
    notes = []
    if not settings:
        notes.append(
            f"assumed {NUM_QUERIES} queries, {HEADS} attention heads in the encoder and images of "
            "640x640 pixels, as published: the file does not store them"
        )
    if is_deim and "activation" not in settings:
        notes.append("assumed the activation of DEIM's decoder, SiLU, by the name of the file")
    num_classes = len(state["queries.class_head.weight"])
    card = ModelCard(
        nearest_preset(arguments),
        arguments,
        assumed_categories(num_classes, "COCO's", [COCO_THINGS, COCO_CLASSES], notes),
        PREPROCESSING,
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), LICENSES)


def write_original(card: ModelCard, state: State, path: Path) -> None:
    """Write {"model": tensors}, which the published code loads strictly at its image size.

    What the tensors do not show is beside them, under "args".
    """
    if card.arguments["frozen_norms"]:
        state = without_backbone_counters(state)
    tensors = to_layout(state, ORIGINAL)
    points = card.arguments["points"]
    for layer in range(card.arguments["decoder_layers"]):
        tensors[SCALE.format(layer)] = points_scale(points)
    places, inside = anchors(strides(len(points)), card.preprocessing.size_px or (640, 640))
    tensors |= {
        "decoder.anchors": places,
        "decoder.valid_mask": inside,
        "decoder.decoder.up": tensors["decoder.up"].clone(),
        "decoder.decoder.reg_scale": tensors["decoder.reg_scale"].clone(),
    }
    with path.open("wb") as file:  # given a path, torch would write its name into the file
        settings = {name: card.arguments[name] for name in UNSTORED if name in card.arguments}
        torch.save({"model": tensors, "args": settings}, file)


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    write_original,
    family="D-FINE",
    table=ORIGINAL,
)
