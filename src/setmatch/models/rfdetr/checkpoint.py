"""Checkpoints of RF-DETR's published code (.pth), and what both layouts have in common."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.rfdetr.key_map import CLASS_TOKEN, PUBLISHED_NAMES, SECOND_LEVEL, UNUSED
from setmatch.models.rfdetr.tensor_shapes import (
    DEFAULTS,
    HEAD_DIM,
    arguments_of,
    nearest_preset,
    points_of,
    published_state,
)
from setmatch.models.weights.card import read_preprocessing
from setmatch.models.weights.classes.coco import COCO_CLASSES, COCO_THINGS, assumed_categories
from setmatch.models.weights.downloads.download import PublishedCheckpoint, fetch
from setmatch.models.weights.layouts.hybrid_folder import require_args
from setmatch.models.weights.layouts.key_map import State, from_layout
from setmatch.models.weights.layouts.layout import LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint, read_pth
from setmatch.models.weights.terms import ROBOFLOW_PML, Terms, terms_of_names
from setmatch.structures.metadata import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Categories,
    ModelCard,
    Preprocessing,
)

URL = "https://storage.googleapis.com/rfdetr/"
LICENSE = "Apache-2.0"
# Addresses and hashes are those in the authors' code (rfdetr/assets/model_weights.py).
PUBLISHED = {
    name: PublishedCheckpoint(URL + address, LICENSE, file, md5)
    for name, address, file, md5 in (
        (
            "rfdetr_n",
            "nano_coco/checkpoint_best_regular.pth",
            "rf-detr-nano.pth",
            "fb6504cce7fbdc783f7a46991f07639f",
        ),
        (
            "rfdetr_s",
            "small_coco/checkpoint_best_regular.pth",
            "rf-detr-small.pth",
            "fb37061c1af7bace359c91b723a8d5c1",
        ),
        (
            "rfdetr_m",
            "medium_coco/checkpoint_best_regular.pth",
            "rf-detr-medium.pth",
            "7223f764a87b863f02eb8d52bf0ce2ee",
        ),
        (
            "rfdetr_l",
            "rf-detr-large-2026.pth",
            "rf-detr-large-2026.pth",
            "5cb72153541cbcb9aa6efa26222acc75",
        ),
        (
            "rfdetr_b",
            "rf-detr-base-coco.pth",
            "rf-detr-base.pth",
            "b4d3ce46099eaed50626ede388caf979",
        ),
        (
            "rfdetr_seg_n",
            "rf-detr-seg-n-ft.pth",
            "rf-detr-seg-nano.pt",
            "9995497791d0ff1664a1d9ddee9cfd20",
        ),
        (
            "rfdetr_seg_s",
            "rf-detr-seg-s-ft.pth",
            "rf-detr-seg-small.pt",
            "0a2a3006381d0c42853907e700eadd08",
        ),
        (
            "rfdetr_seg_m",
            "rf-detr-seg-m-ft.pth",
            "rf-detr-seg-medium.pt",
            "a49af1562c3719227ad43d0ca53b4c7a",
        ),
        (
            "rfdetr_seg_l",
            "rf-detr-seg-l-ft.pth",
            "rf-detr-seg-large.pt",
            "275f7b094909544ed2841c94a677d07e",
        ),
    )
}
LICENSES = {each.name: each.license for each in PUBLISHED.values()} | {
    f"Roboflow/rf-detr-{kind}{name}": LICENSE
    for kind in ("", "seg-")
    for name in ("nano", "small", "medium", "large", *([] if kind else ["base", "base-2"]))
}
SIDE_PX = {"rfdetr_b": 560}  # of the other presets it is that of their positions
# Our names of arguments that no tensor shows, and those of the published code.
ARGUMENTS = {"windows": "num_windows", "heads": "sa_nheads", "cross_heads": "ca_nheads"}
# What no tensor shows, and the model has one form of: how boxes follow from steps, and when; and
# the stride of masks.
REQUIRED_ARGS = {
    "bbox_reparam": True,
    "lite_refpoint_refine": True,
    "two_stage": True,
    "mask_downsample_ratio": 4,
}
XL = re.compile(
    r"(?<![a-wyz])x{1,3}l(?:arge)?(?![a-z])"
)  # in the names of files that are not Apache-2.0


def matches_published(keys: Collection[str]) -> bool:
    """Recognize the class token of the windowed backbone, and the places of queries."""
    return "refpoint_embed.weight" in keys and CLASS_TOKEN in keys


def our_state(raw: RawCheckpoint) -> State:
    """Return the tensors in our names; raises WeightsError for a part that is not read."""
    second = next((key for key in raw.state if SECOND_LEVEL.match(key)), None)
    if second is not None:
        raise WeightsError(
            f"{raw.path}: has features of several strides ({short(second)}), as the first "
            "RF-DETR-L, which its authors replaced by that of 2026 (rfdetr_l); it is not read"
        )
    kept = {key: value for key, value in raw.state.items() if not UNUSED.fullmatch(key)}
    return from_layout(kept, PUBLISHED_NAMES)


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
    card = ModelCard(name or nearest_preset(arguments), arguments, categories, preprocessing)
    ours = published_state(state, arguments)
    return loaded(raw, card, ours, notes, terms_of(raw, len(categories)), LICENSES)


def terms_of(raw: RawCheckpoint, num_classes: int) -> Terms | None:
    """Return the terms of weights, by their name or that of the weights they were trained from."""
    for name in map(str.lower, (*raw.names, str((raw.settings or {}).get("pretrain_weights")))):
        if XL.search(name) and "seg" not in name:
            return ROBOFLOW_PML
    return terms_of_names(raw.names, num_classes)


def read_original(raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code; what it does not store is assumed and noted."""
    require_args(raw, REQUIRED_ARGS, "RF-DETR")
    state = our_state(raw)
    settings = raw.settings or {}
    notes: list[str] = []
    arguments = arguments_of(state)
    preset = raw.preset if raw.preset in DEFAULTS else nearest_preset(arguments)
    published = DEFAULTS[preset]
    arguments["backbone_heads"] = max(arguments["backbone_dim"] // HEAD_DIM, 1)
    for ours, theirs in ARGUMENTS.items():
        arguments[ours] = settings.get(theirs, getattr(published, ours))
    arguments["outputs"] = tuple(settings.get("out_feature_indexes", published.outputs))
    arguments["points"] = points_of(state, arguments["cross_heads"])
    side_px = settings.get(
        "resolution", SIDE_PX.get(preset, arguments["patch"] * arguments["grid"])
    )
    missing = [*ARGUMENTS.values(), "out_feature_indexes", "resolution"]
    if assumed := [name for name in missing if name not in settings]:
        notes.append(f"assumed {', '.join(assumed)} of {preset}: the file does not store them")
    values = {
        "short_side_px": side_px,
        "long_side_px": side_px,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "size_px": [side_px, side_px],
    }
    preprocessing = read_preprocessing(values, f"{raw.path}: args")
    categories = _categories(len(state["decoder.class_head.weight"]), settings, notes)
    return with_card(raw, state, arguments, categories, preprocessing, notes)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_original(read_pth(fetch(name, PUBLISHED[name])))


def _categories(num_classes: int, settings: Mapping[str, Any], notes: list[str]) -> Categories:
    """Return the classes that the file lists; one more column is that of the background."""
    names = settings.get("class_names")
    is_list = isinstance(names, list | tuple) and all(isinstance(each, str) for each in names)
    if names and not is_list:
        notes.append("its class_names are not a list of names, and are not read")
    elif names and len(names) in (num_classes, num_classes - 1):
        columns = [*names, None][:num_classes]
        if len(names) < num_classes:
            notes.append(
                "assumed that its class names count from the first column, as in rfdetr 1.6 and "
                "later; if all classes are one off, pass categories= to name them"
            )
        return Categories(tuple(range(num_classes)), tuple(columns))
    return assumed_categories(num_classes, "COCO's", [COCO_CLASSES, COCO_THINGS], notes)
