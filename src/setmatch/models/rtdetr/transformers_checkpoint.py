"""RT-DETR in transformers' layout: RTDetrForObjectDetection and RTDetrV2ForObjectDetection."""

import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.config import MOST_LAYERS
from setmatch.models.rtdetr.key_map import TRANSFORMERS
from setmatch.models.rtdetr.tensor_shapes import COMPUTED, arguments_of, is_v2, nearest_preset
from setmatch.models.weights.downloads.download import PublishedRepository
from setmatch.models.weights.layouts import hybrid_folder
from setmatch.models.weights.layouts.hub_folder import label_settings, write_hub_folder
from setmatch.models.weights.layouts.hybrid_folder import (
    arguments_from,
    categories_of,
    expansion,
    fetch_folder,
    hub_names,
    others,
    points_of,
    points_scale,
    preprocessing_of,
    processor_settings,
    require_published,
    settings_from,
    strides,
    with_denoising,
    without_backbone_counters,
    without_ties,
)
from setmatch.models.weights.layouts.key_map import (
    State,
    from_layout,
    to_layout,
    with_batch_counters,
)
from setmatch.models.weights.layouts.layout import CheckpointLayout, LoadedWeights, loaded
from setmatch.models.weights.raw_checkpoint import RawCheckpoint
from setmatch.models.weights.stated_sizes import StatedSize, require_stated_sizes, same
from setmatch.models.weights.terms import terms_of_names
from setmatch.structures.metadata import ModelCard

KINDS = {"rt_detr": "RTDetrForObjectDetection", "rt_detr_v2": "RTDetrV2ForObjectDetection"}
SCALE = "model.decoder.layers.{}.encoder_attn.n_points_scale"
REQUIRED_OF_BACKBONE = {
    "model_type": "rt_detr_resnet",
    "hidden_act": "relu",
    "num_channels": 3,
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
KINDS_OF_BLOCKS = {"basic": False, "bottleneck": True}
# The settings that give the shapes of tensors.
SIZES = (
    *hybrid_folder.SIZES,
    *same(
        {
            "backbone_config.embedding_size": "stem",
            "backbone_config.hidden_sizes": "stage_out",
            "backbone_config.depths": "stage_blocks",
        }
    ),
    StatedSize("num_feature_levels", "points", lambda said, sizes: sizes["points"][:1] * said),
    StatedSize("decoder_n_points", "points", lambda said, sizes: (said,) * len(sizes["points"])),
    StatedSize(
        "hidden_expansion", "fusion_dim", lambda said, sizes: int(said * sizes["encoder_dim"])
    ),
    StatedSize("backbone_config.layer_type", "bottleneck", lambda said, _: KINDS_OF_BLOCKS[said]),
)
METHODS = {"default": False, "discrete": True}
DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
# The authors' files, converted by transformers' maintainers; cards say Apache-2.0.
PUBLISHED = {
    "rtdetr_r18": PublishedRepository(
        "PekingU/rtdetr_r18vd",
        "ac77a11ff0170a41b771c03264987f8ce2b0d753",
        "Apache-2.0",
        "fe87a5a30f5daf298d10794c7682a63b6107986f97d6a770ba948d89e4340093",
    ),
    "rtdetr_r34": PublishedRepository("PekingU/rtdetr_r34vd", None, "Apache-2.0"),
    "rtdetr_r50": PublishedRepository(
        "PekingU/rtdetr_r50vd", "df939e661d8c52e80608d1ec566561aabd25a4e7", "Apache-2.0"
    ),
    "rtdetr_r101": PublishedRepository("PekingU/rtdetr_r101vd", None, "Apache-2.0"),
    "rtdetr_v2_r18": PublishedRepository("PekingU/rtdetr_v2_r18vd", None, "Apache-2.0"),
    "rtdetr_v2_r34": PublishedRepository(
        "PekingU/rtdetr_v2_r34vd", "5d60d8fb5eb2a3ee5575bf200ecbce4e2cfa420c", "Apache-2.0"
    ),
    "rtdetr_v2_r50": PublishedRepository(
        "PekingU/rtdetr_v2_r50vd", "282494075698cab9faa1096ae26856890030c817", "Apache-2.0"
    ),
    "rtdetr_v2_r101": PublishedRepository("PekingU/rtdetr_v2_r101vd", None, "Apache-2.0"),
}
LICENSES = {each.repository: each.license for each in PUBLISHED.values()}


def matches_transformers(keys: Collection[str]) -> bool:
    """Recognize the position encoding of boxes and the projected sampling of the decoder."""
    parts = ("query_pos_head.layers.0", "layers.0.encoder_attn.value_proj")
    return all(f"model.decoder.{part}.weight" in keys for part in parts)


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that RT-DETR as published
    does not have.
    """
    config = raw.settings or {}
    kind = config.get("model_type")
    if kind not in KINDS:
        known = " or ".join(map(repr, KINDS))
        raise WeightsError(f"{raw.path}: config.json says model_type {short(kind)}, not {known}")
    _require_published_parts(config, raw.path)
    notes: list[str] = []
    if dropouts := [name for name in DROPOUTS if config.get(name)]:
        notes.append(f"config.json sets {', '.join(dropouts)}: this RT-DETR is trained without")
    v2 = kind == "rt_detr_v2"
    # Heads of RT-DETR are never shared by the decoder layers.
    theirs = hub_names(raw.state, config if v2 else {**config, "tie_word_embeddings": False})
    kept = {key: value for key, value in theirs.items() if not COMPUTED.fullmatch(key)}
    state = with_denoising(with_batch_counters(from_layout(kept, TRANSFORMERS)), notes)
    points = points_of(theirs[SCALE.format(0)]) if v2 else None
    arguments = arguments_of(state, points, config.get("decoder_attention_heads", 8))
    require_stated_sizes(config, arguments, SIZES)
    arguments |= arguments_from(config)
    arguments["eval_positions"] = config.get("eval_size") is None
    arguments["eval_layers"] = MOST_LAYERS
    if v2:
        arguments["offset_scale"] = config.get("decoder_offset_scale", 0.5)
        arguments["nearest"] = METHODS[config.get("decoder_method", "default")]
    num_classes = len(state["queries.class_head.weight"])
    card = ModelCard(
        nearest_preset(arguments, v2),
        arguments,
        categories_of(num_classes, config, raw.path, notes),
        preprocessing_of(raw.path, notes),
    )
    return loaded(raw, card, state, notes, terms_of_names(raw.names, num_classes), LICENSES)


def read_published(name: str) -> LoadedWeights:
    """Download and read the weights that are published for the preset `name`.

    Raises WeightsError with the address if there is no network.
    """
    return read_transformers(fetch_folder(name, PUBLISHED[name]))


def write_transformers(card: ModelCard, state: State, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors for transformers.

    It has the decoder layers that run in evaluation, as transformers runs all that there are.
    Raises WeightsError for a model that transformers has no settings for.
    """
    arguments = card.arguments
    points, blocks = arguments["points"], arguments["fusion_blocks"]
    if len(set(points)) > 1 or blocks != 3:
        raise WeightsError(
            f"{card.preset}: transformers has as many points on every level and 3 fusion_blocks, "
            f"not points = {list(points)} and fusion_blocks = {blocks}; write it as setmatch"
        )
    layers = min(arguments["decoder_layers"], arguments["eval_layers"])
    state = {key: value for key, value in state.items() if _layer_of(key) < layers}
    if arguments["frozen_norms"]:
        state = without_backbone_counters(state)
    tensors = to_layout(state, TRANSFORMERS)
    v2 = is_v2(arguments)
    if v2:
        for layer in range(layers):
            tensors[SCALE.format(layer)] = points_scale(points)
        tensors = without_ties(tensors, layers)
    settings = _config(card, v2, layers)
    write_hub_folder(folder, settings, processor_settings(card.preprocessing), tensors)


def _layer_of(key: str) -> int:
    """Return the number of the decoder layer that a tensor belongs to; -1 if to none."""
    layer = re.match(r"decoder\.(?:layers|class_heads|box_steps)\.(\d+)\.", key)
    return int(layer[1]) if layer else -1


def _config(card: ModelCard, v2: bool, layers: int) -> dict[str, Any]:
    arguments = card.arguments
    all_levels, stages = len(arguments["points"]), len(arguments["stage_out"])
    levels = all_levels - arguments["extra_levels"]
    out, dim = list(arguments["stage_out"]), arguments["encoder_dim"]
    kind = "rt_detr_v2" if v2 else "rt_detr"
    config = {
        "architectures": [KINDS[kind]],
        "model_type": kind,
        "backbone_config": {
            "model_type": "rt_detr_resnet",
            "embedding_size": arguments["stem"],
            "hidden_sizes": out,
            "depths": list(arguments["stage_blocks"]),
            "layer_type": "bottleneck" if arguments["bottleneck"] else "basic",
            "out_indices": list(range(stages - levels + 1, stages + 1)),
        },
        "encoder_hidden_dim": dim,
        "encoder_in_channels": out[-levels:],
        "feat_strides": strides(levels),
        "encode_proj_layers": [levels - 1],
        "encoder_layers": arguments["encoder_layers"],
        "encoder_ffn_dim": arguments["encoder_ffn_dim"],
        "eval_size": None if arguments["eval_positions"] else max(_size_px(card)),
        "hidden_expansion": expansion(arguments["fusion_dim"], dim),
        "d_model": arguments["dim"],
        "decoder_in_channels": [dim] * levels,
        "decoder_ffn_dim": arguments["ffn_dim"],
        "num_feature_levels": all_levels,
        "decoder_n_points": arguments["points"][0],
        "decoder_layers": layers,
        "decoder_attention_heads": arguments["heads"],
        **settings_from(arguments),
        **label_settings(card.categories),
    }
    if not v2:
        return config
    methods = {nearest: method for method, nearest in METHODS.items()}
    return config | {
        "decoder_n_levels": all_levels,
        "decoder_offset_scale": arguments["offset_scale"],
        "decoder_method": methods[arguments["nearest"]],
        "tie_word_embeddings": layers > 1,
    }


def _size_px(card: ModelCard) -> tuple[int, int]:
    return card.preprocessing.size_px or (640, 640)


def _require_published_parts(config: Mapping[str, Any], path: Path) -> None:
    backbone = config.get("backbone_config") or {}
    levels = len(config.get("decoder_in_channels", [0, 0, 0]))
    widths = list(backbone.get("hidden_sizes", [256, 512, 1024, 2048]))
    used = backbone.get("out_indices", _last(len(widths), levels))
    repeats = any(a == b for a, b in itertools.pairwise(widths))
    is_basic = backbone.get("layer_type", "bottleneck") == "basic"
    problems = [
        *(f"backbone_config.{each}" for each in others(backbone, REQUIRED_OF_BACKBONE)),
        *(["backbone_config.out_indices"] if list(used) != _last(len(widths), levels) else []),
        # transformers then halves by a stride, without the mean.
        *(["backbone_config.hidden_sizes"] if is_basic and repeats else []),
        *(["decoder_method"] if config.get("decoder_method", "default") not in METHODS else []),
    ]
    require_published(problems, config, path, "RT-DETR")


def _last(stages: int, levels: int) -> list[int]:
    return list(range(stages - levels + 1, stages + 1))


LAYOUT = CheckpointLayout(
    "transformers",
    matches_transformers,
    read_transformers,
    write_transformers,
    family="RT-DETR",
    table=TRANSFORMERS,
)
