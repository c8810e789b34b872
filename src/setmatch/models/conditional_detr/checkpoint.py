"""Checkpoints of Conditional DETR: the authors' code (.pth) and transformers' layout.

DAB-DETR's are read by the same functions, with other names.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from setmatch.errors import WeightsError, short
from setmatch.models.conditional_detr.key_map import ORIGINAL, TRANSFORMERS
from setmatch.models.weights.classes.coco import (
    COCO_CLASSES,
    COCO_THINGS,
    assumed_categories,
    with_coco_ids,
)
from setmatch.models.weights.downloads.download import PublishedRepository
from setmatch.models.weights.layouts.hub_folder import named_categories
from setmatch.models.weights.layouts.hybrid_folder import fetch_folder, others, require_args, rows
from setmatch.models.weights.layouts.key_map import State, Table, count_parts, from_layout
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.layouts.resnet_folder import (
    hub_name,
    is_dilated,
    preprocessing_of,
    resnet_of,
)
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import require_stated_sizes, same
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

# The settings that give the shapes of tensors; DAB-DETR has another name for the first, and
# patterns.
SIZES = same(
    {
        "d_model": "dim",
        "hidden_size": "dim",
        "num_queries": "num_queries",
        "num_patterns": "patterns",
        "encoder_layers": "encoder_layers",
        "encoder_ffn_dim": "encoder_ffn_dim",
        "decoder_layers": "decoder_layers",
        "decoder_ffn_dim": "ffn_dim",
    }
)
PATTERNS = "queries.patterns.weight"
HEADS, DROPOUT = 8, 0.1  # of every published model; a file may not store them
PUBLISHED = {
    "conditional_detr_r50": PublishedRepository(
        "microsoft/conditional-detr-resnet-50", None, "Apache-2.0"
    )
}


@dataclass(frozen=True)
class PlacedFamily:
    """How the checkpoints of a family of DETRs with placed queries are named and read.

    `required` are the settings that the model has one form of, in config.json, and `required_args`
    those in the args of a .pth that no tensor shows. Tensors below a prefix of `copies` are stored
    twice by the published codes. A box may have several patterns if the family `has_patterns`.
    """

    name: str
    preset: str
    model_type: str
    table: Table
    hub_table: Table
    required: Mapping[str, Any]
    published: Mapping[str, PublishedRepository]
    copies: tuple[tuple[str, str], ...] = ()
    has_patterns: bool = False
    required_args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def licenses(self) -> dict[str, str]:
        """The licenses of published repositories."""
        return {each.repository: each.license for each in self.published.values()}

    def layout(
        self,
        name: str,
        matches: Callable[[Collection[str]], bool],
        read: Callable[["PlacedFamily", RawCheckpoint], LoadedWeights],
    ) -> CheckpointLayout:
        """Return the layout of the authors' code, or that of transformers."""
        table = self.table if name == "original" else self.hub_table
        return CheckpointLayout(name, matches, partial(read, self), family=self.name, table=table)


CONDITIONAL = PlacedFamily(
    "Conditional DETR",
    "conditional_detr_r50",
    "conditional_detr",
    ORIGINAL,
    TRANSFORMERS,
    {"activation_function": "relu", "position_embedding_type": "sine", "num_channels": 3},
    PUBLISHED,
)


def read_original(family: PlacedFamily, raw: RawCheckpoint) -> LoadedWeights:
    """Read a .pth of the published code; what it does not store is assumed and noted."""
    require_args(raw, family.required_args, family.name)
    settings = raw.settings or {}
    state = from_layout(_without_copies(raw.state, family, raw.path), family.table)
    notes: list[str] = []
    if missing := [name for name in ("nheads", "dropout", "dilation") if name not in settings]:
        notes.append(f"assumed {', '.join(missing)} as published: the file does not store them")
    heads = settings.get("nheads", HEADS)
    arguments = {
        **_sizes(family, state, raw.path),
        "heads": heads,
        "encoder_heads": heads,
        "dropout": settings.get("dropout", DROPOUT),
    }
    num_classes = len(state["class_head.weight"])
    card = ModelCard(
        _preset(family, bool(settings.get("dilation"))),
        arguments,
        assumed_categories(num_classes, "COCO's", [COCO_CLASSES, COCO_THINGS], notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), {})


def read_transformers(family: PlacedFamily, raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that the family as
    published does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != family.model_type:
        kind = short(config.get("model_type"))
        raise WeightsError(
            f"{raw.path}: config.json says model_type {kind}, not {family.model_type!r}"
        )
    if problems := others(config, family.required):
        raise WeightsError(
            f"{raw.path}: config.json has a value of {', '.join(problems)} that no {family.name} "
            "read here has"
        )
    dilated = is_dilated(config, raw.path)
    theirs = {hub_name(key): value for key, value in raw.state.items()}
    state = from_layout(_without_copies(theirs, family, raw.path), family.hub_table)
    sizes = _sizes(family, state, raw.path)
    require_stated_sizes(config, sizes, SIZES)
    notes: list[str] = []
    arguments = {
        **sizes,
        "heads": config.get("decoder_attention_heads", HEADS),
        "encoder_heads": config.get("encoder_attention_heads", HEADS),
        "dropout": config.get("dropout", DROPOUT),
    }
    num_classes = len(state["class_head.weight"])
    card = ModelCard(
        _preset(family, dilated),
        arguments,
        with_coco_ids(named_categories(num_classes, config, raw.path, notes)),
        preprocessing_of(raw.path, notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), family.licenses)


def read_published(family: PlacedFamily, name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_transformers(family, fetch_folder(name, family.published[name]))


def _preset(family: PlacedFamily, dilated: bool) -> str:
    return f"{family.preset}_dc5" if dilated else family.preset


def _sizes(family: PlacedFamily, ours: State, path: Path) -> dict[str, Any]:
    """Return the arguments that the shapes of tensors show; KeyError for a missing tensor."""
    encoder_layers = count_parts(ours, r"encoder\.layers\.(\d+)\.")
    sizes = {
        "backbone": resnet_of(ours, path),
        "num_queries": rows(ours, "queries.embedding"),
        "dim": rows(ours, "decoder.norm"),
        "encoder_layers": encoder_layers,
        "decoder_layers": count_parts(ours, r"decoder\.layers\.(\d+)\."),
        "ffn_dim": rows(ours, "decoder.layers.0.ffn.0"),
    }
    if family.has_patterns:
        sizes["patterns"] = rows(ours, "queries.patterns") if PATTERNS in ours else 0
    if encoder_layers:
        sizes["encoder_ffn_dim"] = rows(ours, "encoder.layers.0.ffn.0")
    return sizes


def _without_copies(theirs: State, family: PlacedFamily, path: Path) -> State:
    """Return the tensors without those that are stored twice; WeightsError if copies differ."""
    kept: State = {}
    for key, value in theirs.items():
        name = key
        for copy, original in family.copies:
            name = original + key.removeprefix(copy) if key.startswith(copy) else name
        if name in kept and not torch.equal(kept[name], value):
            raise WeightsError(f"{path}: {name} is stored twice, with different values")
        kept[name] = value
    return kept


def _matches_original(keys: Collection[str]) -> bool:
    """Recognize DETR's queries, and the scaled positions of the decoder."""
    part = "transformer.decoder.query_scale.layers.0.weight"
    return part in keys and "query_embed.weight" in keys


def _matches_transformers(keys: Collection[str]) -> bool:
    """Recognize DETR's heads, and the scaled positions of the decoder."""
    part = "model.decoder.query_scale.layers.0.weight"
    return part in keys and "class_labels_classifier.weight" in keys


LAYOUTS = (
    CONDITIONAL.layout("original", _matches_original, read_original),
    CONDITIONAL.layout("transformers", _matches_transformers, read_transformers),
)
