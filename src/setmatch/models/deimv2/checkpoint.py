"""Checkpoints of DEIMv2's published code: files (.pth), and its repositories on the hub."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from setmatch.errors import WeightsError
from setmatch.models.deimv2.key_map import ORIGINAL, unpacked
from setmatch.models.deimv2.tensor_shapes import DEFAULTS, arguments_of, nearest_preset
from setmatch.models.dfine.checkpoint import SCALE
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.downloads.download import PublishedRepository
from setmatch.models.weights.layouts.hybrid_folder import HEADS, fetch_folder, points_of
from setmatch.models.weights.layouts.key_map import State, from_layout, with_batch_counters
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.terms import UNKNOWN, terms_of_names
from setmatch.structures.metadata import ModelCard

# The cards of these repositories state no license; that of the code is Apache-2.0.
PUBLISHED = {
    name: PublishedRepository(f"Intellindust/DEIMv2_HGNetv2_{size}_COCO", None, UNKNOWN)
    for name, size in (
        ("deimv2_atto", "ATTO"),
        ("deimv2_femto", "FEMTO"),
        ("deimv2_pico", "PICO"),
        ("deimv2_n", "N"),
    )
}
SIDE_PX = {"deimv2_atto": 320, "deimv2_femto": 416, "deimv2_pico": 640, "deimv2_n": 640}
# Not part of the model: what the code computes.
COMPUTED = re.compile(r".*\.num_points_scale|decoder\.(anchors|valid_mask)")
# Kept twice, of which the hub has one: our layout's name, and the other.
TWICE = {"decoder.up": "decoder.decoder.up", "decoder.reg_scale": "decoder.decoder.reg_scale"}
EDGE_HEAD = re.compile(r"(decoder\.dec_bbox_head)\.\d+\.")


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the gated feed-forward network of the published decoder."""
    return "decoder.decoder.layers.0.swish_ffn.w12.weight" in keys


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a file, or a folder of the hub; what it does not store is assumed and noted."""
    require_hgnetv2(not any(key.startswith("backbone.dinov3.") for key in raw.state), raw.path)
    state = with_batch_counters(from_layout(_one_of_each(raw.state), ORIGINAL))
    arguments = arguments_of(state, points_of(raw.state[SCALE.format(0)]))
    settings = (raw.settings or {}).get("DEIMTransformer")
    transformer = settings if isinstance(settings, Mapping) else {}
    arguments |= {"encoder_heads": HEADS, "frozen_norms": False}
    preset = raw.preset if raw.preset in DEFAULTS else nearest_preset(arguments)
    notes: list[str] = []
    arguments["num_queries"] = transformer.get("num_queries", DEFAULTS[preset].num_queries)
    side_px = SIDE_PX[preset]
    size_px = list(transformer.get("eval_spatial_size") or (side_px, side_px))
    if not transformer:
        notes.append(
            f"assumed {arguments['num_queries']} queries and images of {side_px}x{side_px} pixels, "
            f"as {preset} has them: the file does not store them"
        )
    num_classes = len(state["queries.class_head.weight"])
    values = {
        "short_side_px": min(size_px),
        "long_side_px": max(size_px),
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "size_px": size_px,
    }
    card = ModelCard(
        preset,
        arguments,
        assumed_categories(num_classes, "COCO's", [COCO_THINGS, COCO_CLASSES], notes),
        read_preprocessing(values, f"{raw.path}: DEIMTransformer.eval_spatial_size"),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), {})


def require_hgnetv2(is_hgnetv2: bool, path: Path) -> None:
    """Raise WeightsError for a model on DINOv3."""
    if not is_hgnetv2:
        raise WeightsError(
            f"{path}: a DEIMv2 on DINOv3, whose weights have terms of their own "
            "(github.com/Intellindust-AI-Lab/DEIMv2/issues/167); only those on HGNetV2 "
            "are read: deimv2_atto, deimv2_femto, deimv2_pico and deimv2_n"
        )


def _one_of_each(theirs: State) -> State:
    """Return the tensors without those that are computed, and without copies of shared ones."""
    state: State = {key: value for key, value in theirs.items() if not COMPUTED.fullmatch(key)}
    for name, copy in TWICE.items():
        value = state.pop(copy, None)
        if value is not None:
            state.setdefault(name, value)
    heads = {key: EDGE_HEAD.sub(r"\1.0.", key) for key in state if EDGE_HEAD.match(key)}
    shared = {first: state[key] for key, first in heads.items()}
    if all(state[key].equal(shared[first]) for key, first in heads.items()):
        state = {key: value for key, value in state.items() if key not in heads} | shared
    return unpacked(state)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_original(fetch_folder(name, PUBLISHED[name]))


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    family="DEIMv2",
    table=ORIGINAL,
)
