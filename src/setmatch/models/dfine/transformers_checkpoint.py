"""D-FINE in transformers' layout: DFineForObjectDetection."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from setmatch.errors import WeightsError, short
from setmatch.models.dfine.key_map import TRANSFORMERS
from setmatch.models.dfine.tensor_shapes import COMPUTED, arguments_of, nearest_preset
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

SCALE = "model.decoder.layers.{}.encoder_attn.num_points_scale"
ARGUMENTS = hybrid_folder.ARGUMENTS | {"offset_scale": ("decoder_offset_scale", 0.5)}
REQUIRED = {"eval_size": None, "decoder_method": "default"}
REQUIRED_OF_BACKBONE = {"hidden_act": "relu", "stem_strides": [2, 1, 1, 2, 1]}
# The settings that give the shapes of tensors.
SIZES = (
    *hybrid_folder.SIZES,
    *same(
        {
            "top_prob_values": "quality_best",
            "lqe_layers": "quality_layers",
            "backbone_config.stage_mid_channels": "stage_inner",
            "backbone_config.stage_out_channels": "stage_out",
            "backbone_config.stage_num_blocks": "stage_blocks",
            "backbone_config.stage_numb_of_layers": "stage_layers",
            "backbone_config.stage_kernel_size": "stage_kernels",
            "backbone_config.stage_light_block": "stage_light",
            "backbone_config.use_learnable_affine_block": "affine",
        }
    ),
    StatedSize("max_num_bins", "bins", lambda said, _: said + 1),
    StatedSize("backbone_config.stem_channels", "stem", lambda said, _: tuple(said[1:])),
    StatedSize("depth_mult", "fusion_blocks", lambda said, _: round(3 * said)),
    StatedSize(
        "hidden_expansion",
        "fusion_dim",
        lambda said, sizes: round(said * sizes["encoder_dim"] // 2),
    ),
    StatedSize("decoder_n_points", "points", lambda said, sizes: _points(said, sizes["points"])),
)
# The authors' files of the model zoo at github.com/Peterande/D-FINE, converted for the hub.
PUBLISHED = {
    "dfine_n": PublishedRepository(
        "ustc-community/dfine-nano-coco",
        "066438d3d8f0da137a37b38fdf3368fd4afceced",
        "Apache-2.0",
        "19e06bdc873da819920a8d373b879721a5b9759d822f8213220bb09abbdab58b",
    ),
    "dfine_s": PublishedRepository(
        "ustc-community/dfine-small-coco",
        "f79e65b5fbb33ceb9d3ebba042955d7410c608f8",
        "Apache-2.0",
        "a144baff3a27bfd538fe37b11fa8d4fca5744b8c054b5301e7c699a1379cd18f",
    ),
    "dfine_m": PublishedRepository(
        "ustc-community/dfine-medium-coco",
        "4ab9f5e466432f4fcf9a9a023da6aa5ecc9c9829",
        "Apache-2.0",
    ),
    "dfine_l": PublishedRepository(
        "ustc-community/dfine-large-coco",
        "aa8f8211545e4cff5adf52ea512f9ac74a9824ec",
        "Apache-2.0",
    ),
    "dfine_x": PublishedRepository("ustc-community/dfine-xlarge-coco", None, "Apache-2.0"),
}
LICENSES = {each.repository: each.license for each in PUBLISHED.values()}


def _points(said: Any, points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the points of each level, for which config.json may have a single number."""
    return tuple(said) if isinstance(said, list) else (said,) * len(points)


def matches_transformers(keys: Collection[str]) -> bool:
    """Recognize the first box head of transformers' decoder; that of DEIMv2 has gates."""
    heads = ("pre_bbox_head.layers.0.weight", "lqe_layers.0.reg_conf.layers.0.weight")
    gates = "model.decoder.layers.0.mlp.gate_proj.weight"
    return all(f"model.decoder.{head}" in keys for head in heads) and gates not in keys


def read_transformers(raw: RawCheckpoint) -> LoadedWeights:
    """Read a folder that transformers wrote.

    Raises WeightsError for a config.json of another model, or with a part that D-FINE as published
    does not have.
    """
    config = raw.settings or {}
    if config.get("model_type") != "d_fine":
        kind = short(config.get("model_type"))
        raise WeightsError(f"{raw.path}: config.json says model_type {kind}, not 'd_fine'")
    _require_published_parts(config, raw.path)
    notes: list[str] = []
    theirs = hub_names(raw.state, config)
    kept = {key: value for key, value in theirs.items() if not COMPUTED.fullmatch(key)}
    state = with_denoising(with_batch_counters(from_layout(kept, TRANSFORMERS)), notes)
    arguments = arguments_of(state, points_of(theirs[SCALE.format(0)]))
    require_stated_sizes(config, arguments, SIZES)
    arguments |= arguments_from(config, ARGUMENTS)
    num_classes = len(state["queries.class_head.weight"])
    card = ModelCard(
        nearest_preset(arguments),
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
    """Write config.json, preprocessor_config.json and model.safetensors for transformers."""
    arguments = card.arguments
    if arguments["activation"] != "relu":
        raise WeightsError(
            f"{card.preset}: transformers' D-FINE has ReLU in its decoder, not activation = "
            f"{arguments['activation']!r}; write it as original or setmatch"
        )
    if arguments["frozen_norms"]:
        state = without_backbone_counters(state)
    tensors = to_layout(state, TRANSFORMERS)
    for layer in range(arguments["decoder_layers"]):
        tensors[SCALE.format(layer)] = points_scale(arguments["points"])
    tensors = without_ties(tensors, arguments["decoder_layers"])
    write_hub_folder(folder, _config(card), processor_settings(card.preprocessing), tensors)


def _config(card: ModelCard) -> dict[str, Any]:
    arguments = card.arguments
    levels = len(arguments["points"])
    stages = len(arguments["stage_out"])
    out, dim = list(arguments["stage_out"]), arguments["encoder_dim"]
    return {
        "architectures": ["DFineForObjectDetection"],
        "model_type": "d_fine",
        "backbone_config": {
            "model_type": "hgnet_v2",
            "stem_channels": [3, *arguments["stem"]],
            "embedding_size": arguments["stem"][1],
            "stage_in_channels": [arguments["stem"][1], *out[:-1]],
            "stage_mid_channels": list(arguments["stage_inner"]),
            "stage_out_channels": out,
            "hidden_sizes": out,
            "depths": list(arguments["stage_blocks"]),
            "stage_num_blocks": list(arguments["stage_blocks"]),
            "stage_numb_of_layers": list(arguments["stage_layers"]),
            "stage_kernel_size": list(arguments["stage_kernels"]),
            "stage_light_block": [bool(light) for light in arguments["stage_light"]],
            "stage_downsample": [index > 0 for index in range(stages)],
            "stage_downsample_strides": [2] * stages,
            "use_learnable_affine_block": arguments["affine"],
            "out_indices": list(range(stages - levels + 1, stages + 1)),
        },
        "encoder_hidden_dim": dim,
        "encoder_in_channels": out[-levels:],
        "feat_strides": strides(levels),
        "encode_proj_layers": [levels - 1],
        "encoder_layers": arguments["encoder_layers"],
        "encoder_ffn_dim": arguments["encoder_ffn_dim"],
        # transformers takes half of int(factor · dim).
        "hidden_expansion": expansion(2 * arguments["fusion_dim"], dim),
        "depth_mult": arguments["fusion_blocks"] / 3,
        "d_model": arguments["dim"],
        "decoder_in_channels": [dim] * levels,
        "decoder_ffn_dim": arguments["ffn_dim"],
        "num_feature_levels": levels,
        "decoder_n_points": list(arguments["points"]),
        "decoder_layers": arguments["decoder_layers"],
        "decoder_attention_heads": arguments["heads"],
        "tie_word_embeddings": arguments["decoder_layers"] > 1,
        "max_num_bins": arguments["bins"] - 1,
        "up": arguments["reach"],
        "reg_scale": arguments["per_side"],
        "top_prob_values": arguments["quality_best"],
        "lqe_hidden_dim": arguments["quality_dim"],
        "lqe_layers": arguments["quality_layers"],
        **settings_from(arguments, ARGUMENTS),
        **label_settings(card.categories),
    }


def _require_published_parts(config: Mapping[str, Any], path: Path) -> None:
    backbone = config.get("backbone_config") or {}
    strides = backbone.get("stage_downsample_strides", [2])
    halves = list(backbone.get("stage_downsample", []))
    levels = len(config.get("decoder_in_channels", [0, 0, 0]))
    last = (-1, config.get("decoder_layers", 6) - 1)
    problems = [
        *others(config, REQUIRED),
        *(f"backbone_config.{each}" for each in others(backbone, REQUIRED_OF_BACKBONE)),
        *(["stage_downsample_strides"] if set(strides) != {2} else []),
        *(["stage_downsample"] if halves != [i > 0 for i in range(len(halves))] else []),
        *(["eval_idx"] if config.get("eval_idx", -1) not in last else []),
        *(["num_feature_levels"] if config.get("num_feature_levels", 3) != levels else []),
    ]
    require_published(problems, config, path, "D-FINE")


LAYOUT = CheckpointLayout(
    "transformers",
    matches_transformers,
    read_transformers,
    write_transformers,
    family="D-FINE",
    table=TRANSFORMERS,
)
