"""Checkpoints of LW-DETR's published code (.pth), and what both layouts have in common."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from setmatch.models.lwdetr.key_map import ORIGINAL, POSITION, unpacked
from setmatch.models.lwdetr.tensor_shapes import (
    DEFAULTS,
    arguments_of,
    fitting_state,
    nearest_preset,
)
from setmatch.models.rfdetr.tensor_shapes import points_of
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.downloads.download import PublishedCheckpoint, fetch
from setmatch.models.weights.layouts.hybrid_folder import require_args
from setmatch.models.weights.layouts.key_map import State, count_parts, from_layout
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_pth
from setmatch.models.weights.terms import OBJECTS365, Terms, terms_of_names
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

URL = "https://huggingface.co/xbsu/LW-DETR/resolve/main/pretrain_weights/"
LICENSE = "Apache-2.0"  # of that repository
SIDE_PX = 640
SQUARE = Preprocessing(SIDE_PX, SIDE_PX, size_px=(SIDE_PX, SIDE_PX))
PUBLISHED = {
    name: PublishedCheckpoint(f"{URL}{file}", LICENSE, sha256=sha256)
    for name, file, sha256 in (
        (
            "lwdetr_t",
            "LWDETR_tiny_60e_coco.pth",
            "382431625cf2aaf81771d8d7f708d9742dc0a4447044c09201b3066bab97e43c",
        ),
        (
            "lwdetr_s",
            "LWDETR_small_60e_coco.pth",
            "b5f07c9d73f1a9ac1d8c26e184202c28ca9e01b458f61002789a8843c4591331",
        ),
        (
            "lwdetr_m",
            "LWDETR_medium_60e_coco.pth",
            "18675ef2d23c7490bf977fc1dccef9f317257c328809de68bbe4f04a7ef89054",
        ),
        (
            "lwdetr_l",
            "LWDETR_large_60e_coco.pth",
            "5bef27a8fbef37f1d7b5a6c6669a09ce182a631c699ba2ddf63d0c4af22d4f36",
        ),
        (
            "lwdetr_x",
            "LWDETR_xlarge_60e_coco.pth",
            "5f116ad0752fdbc2fa1e49b54ab3349594f0091b1834383db0892ebda644ab69",
        ),
    )
}
LICENSES = {each.name: each.license for each in PUBLISHED.values()}
# All published weights were trained on Objects365 first (README of the authors' code).
PUBLISHED_NAME = re.compile(r"lwdetr_(tiny|small|medium|large|x-?large)_\d+e_coco", re.IGNORECASE)
# Our names of arguments that no tensor shows, and those of the authors' code.
ARGUMENTS = {"heads": "sa_nheads", "cross_heads": "ca_nheads"}
BLOCKS = {"windowed": "window_block_indexes", "outputs": "out_feature_indexes"}  # counted from 0
TRAINED_FROM = ("pretrain_weights", "pretrained_encoder")
# What no tensor shows, and the model has one form of: how boxes follow from steps, and when.
REQUIRED_ARGS = {"bbox_reparam": True, "lite_refpoint_refine": True, "two_stage": True}
WINDOWS, BACKBONE_HEADS = 4, 12  # of every model of the authors' code


def matches_original(keys: Collection[str]) -> bool:
    """Recognize the positions of the backbone, and the places of queries."""
    return "refpoint_embed.weight" in keys and POSITION in keys


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code; what it does not store is assumed and noted."""
    require_args(raw, REQUIRED_ARGS, "LW-DETR")
    state = from_layout(unpacked(raw.state), ORIGINAL)
    settings = raw.settings or {}
    notes: list[str] = []
    arguments = arguments_of(state)
    blocks = count_parts(state, r"backbone\.blocks\.(\d+)\.")
    preset = raw.preset if raw.preset in DEFAULTS else nearest_preset(arguments, blocks)
    arguments |= {"backbone_heads": BACKBONE_HEADS, "windows": WINDOWS}
    arguments |= _settings(settings, preset, notes)
    levels = len(arguments["scales"])
    arguments["points"] = points_of(state, arguments["cross_heads"], levels)
    num_classes = len(state["decoder.class_head.weight"])
    categories = assumed_categories(num_classes, "COCO's", [COCO_CLASSES, COCO_THINGS], notes)
    return with_card(raw, state, arguments, categories, SQUARE, notes)


def _settings(settings: Mapping[str, Any], preset: str, notes: list[str]) -> dict[str, Any]:
    """Return the arguments that no tensor shows, those of `preset` where a file has none."""
    published = DEFAULTS[preset]
    found = {ours: settings.get(name, getattr(published, ours)) for ours, name in ARGUMENTS.items()}
    for ours, name in BLOCKS.items():
        given = settings.get(name)
        found[ours] = getattr(published, ours) if given is None else tuple(i + 1 for i in given)
    missing = [name for name in (ARGUMENTS | BLOCKS).values() if settings.get(name) is None]
    if missing:
        notes.append(f"assumed {', '.join(missing)} of {preset}: the file does not store them")
    return found


def with_card(
    raw: RawCheckpoint,
    state: State,
    arguments: dict[str, Any],
    categories: Categories,
    preprocessing: Preprocessing,
    notes: Sequence[str],
) -> LoadedWeights:
    """Return the weights with their card and terms."""
    name = next((n for n, each in PUBLISHED.items() if each.name == raw.path.name), None)
    name = name or nearest_preset(arguments, arguments["outputs"][-1])
    card = ModelCard(name, arguments, categories, preprocessing)
    ours = fitting_state(state, arguments)
    return loaded(raw, card, ours, notes, terms_of(raw, len(categories)), LICENSES)


def terms_of(raw: RawCheckpoint, num_classes: int) -> Terms | None:
    """Return the terms of weights, by their name or those of the weights they were trained from."""
    trained_from = [str((raw.settings or {}).get(name)) for name in TRAINED_FROM]
    names = (*raw.names, *trained_from)
    if any(PUBLISHED_NAME.search(name) for name in names):
        return OBJECTS365
    return terms_of_names(names, num_classes)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_original(read_pth(fetch(name, PUBLISHED[name])))


LAYOUT = CheckpointLayout(
    "original",
    matches_original,
    read_original,
    family="LW-DETR",
    table=ORIGINAL,
)
