"""Deformable DETR in transformers' layout: DeformableDetrForObjectDetection."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.deformable_detr.checkpoint import (
    arguments_of,
    class_head_of,
    our_state,
    preset_of,
)
from setmatch.models.deformable_detr.key_map import TRANSFORMERS
from setmatch.models.weights.classes.coco import with_coco_ids
from setmatch.models.weights.downloads.download import PublishedRepository
from setmatch.models.weights.layouts.hub_folder import named_categories
from setmatch.models.weights.layouts.hybrid_folder import fetch_folder, others
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.layouts.resnet_folder import hub_name, is_dilated, preprocessing_of
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import require_stated_sizes, same
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

# What the model has one form of; a config with another value is of another model.
REQUIRED = {
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "num_channels": 3,
}
# The settings that give the shapes of tensors.
SIZES = same(
    {
        "d_model": "dim",
        "num_feature_levels": "levels",
        "encoder_layers": "encoder_layers",
        "encoder_ffn_dim": "encoder_ffn_dim",
        "encoder_n_points": "encoder_points",
        "decoder_layers": "decoder_layers",
        "decoder_ffn_dim": "ffn_dim",
        "decoder_n_points": "points",
    }
)
DROPOUTS = ("attention_dropout", "activation_dropout")
# The authors' files, converted by transformers' maintainers; cards say Apache-2.0.
PUBLISHED = {
    "deformable_detr_r50": PublishedRepository(
        "SenseTime/deformable-detr",
        "83ecd26945199939cb82806f988debdb71e6f43e",
        "Apache-2.0",
        "caf1e3e61283c6ce35cd2d9adaa7033cf40997d4dfe434003bcdb9085cc8cf9b",
    ),
    "deformable_detr_r50_single_scale": PublishedRepository(
        "SenseTime/deformable-detr-single-scale",
        "e880a4ca7bbe47b33d37ed90e2948efbbdad0d44",
        "Apache-2.0",
        "82eeb57bbcdd02408afc53d5f5c874e3a7f27b5034194ae2c4475d06fceaa59b",
    ),
    "deformable_detr_r50_single_scale_dc5": PublishedRepository(
        "SenseTime/deformable-detr-single-scale-dc5",
        "c23332913d0ae1a8c98725e308eccba65a5933cc",
        "Apache-2.0",
        "e71afa5f5900e2e769275156494195508efcadaab4275b0cd4c80f10369dc090",
    ),
    "deformable_detr_r50_refine": PublishedRepository(
        "SenseTime/deformable-detr-with-box-refine",
        "2e9e461623a8fdc296e19666c46c8a4389a3a6fe",
        "Apache-2.0",
        "4113700fe8aade398808424b7c5c1304cfbf886adc6450a6ca5d50a702be3373",
    ),
    "deformable_detr_r50_two_stage": PublishedRepository(
        "SenseTime/deformable-detr-with-box-refine-two-stage",
        "e74bff70d69f3e825f6cefaf179bfba707f92054",
        "Apache-2.0",
        "411bb4238a834d40fff651b1b5b7d6dd80c2dd28be1747eec7b6918674e85de6",
    ),
}
LICENSES = {each.repository: each.license for each in PUBLISHED.values()}


def matches_transformers(keys: Collection[str]) -> bool:
    """Recognize the encodings of levels, and the deformable attention of the decoder."""
    part = "model.decoder.layers.0.encoder_attn.sampling_offsets.weight"
    return "model.level_embed" in keys and part in keys


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that Deformable DETR as
    published does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != "deformable_detr":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'deformable_detr'")
    _require_published_parts(config, raw.path)
    dilated = is_dilated(config, raw.path)
    notes: list[str] = []
    if dropouts := [name for name in DROPOUTS if config.get(name)]:
        notes.append(f"config.json sets {', '.join(dropouts)}: here they are equal to dropout")
    theirs = {hub_name(key): value for key, value in raw.state.items()}
    refines = bool(config.get("with_box_refine"))
    state = our_state(theirs, TRANSFORMERS, raw.path, refines)
    known = {
        "heads": config.get("decoder_attention_heads", 8),
        "encoder_heads": config.get("encoder_attention_heads", 8),
        "dropout": config.get("dropout", 0.1),
        "num_queries": config.get("two_stage_num_proposals", 300),
    }
    arguments = arguments_of(state, known, raw.path)
    require_stated_sizes(config, arguments, SIZES)
    num_classes = len(state[class_head_of(state)])
    card = ModelCard(
        preset_of(state, arguments, dilated, raw.path),
        arguments,
        with_coco_ids(named_categories(num_classes, config, raw.path, notes)),
        preprocessing_of(raw.path, notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), LICENSES)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_transformers(fetch_folder(name, PUBLISHED[name]))


def _require_published_parts(config: Mapping[str, Any], path: Path) -> None:
    if problems := others(config, REQUIRED):
        raise WeightsError(
            f"{path}: config.json has a value of {', '.join(problems)} that no published "
            "Deformable DETR has; such a model is not read"
        )


LAYOUT = CheckpointLayout(
    "transformers",
    matches_transformers,
    read_transformers,
    family="Deformable DETR",
    table=TRANSFORMERS,
)
