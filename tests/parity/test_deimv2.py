"""Against transformers' DEIMv2, built from its config; its graph is not quite the authors'."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import setmatch
from setmatch.structures.metadata import Categories
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    millions_of_parameters,
    write_theirs,
)
from .small_deimv2 import CASES, small_deimv2
from .small_dfine import every_layer

SQUARE, WIDE, TALL = (96, 96), (64, 128), (160, 64)


@pytest.mark.parametrize("case", usually(CASES, "atto", "three_levels", "other"))
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = small_deimv2(case)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    sizes = ((SQUARE, 2), (WIDE, 1), (TALL, 2))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)


def test_the_sizes_of_published_models_are_those_of_their_names():
    """Parameters in millions, as the authors give them."""
    for name, millions in (("atto", 0.5), ("femto", 1.0), ("pico", 1.5), ("n", 3.6)):
        assert millions_of_parameters(f"deimv2_{name}", 80) == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("decoder_method", "discrete"),
        ("encoder_fuse_op", "cat"),
        ("encoder_has_trailing_conv", False),
        ("eval_idx", 1),
        ("encode_proj_layers", [0]),
        ("decoder_activation_function", "tanh"),
        ("encoder_type", "other"),
        ("num_feature_levels", 3),
        ("layer_scale", 2),
        ("learn_initial_query", True),
    ],
)
def test_a_config_of_another_model_is_one_line(setting: str, value: object, tmp_path: Path):
    write_theirs(tmp_path, small_deimv2)
    config = json.loads((tmp_path / "config.json").read_text())
    config[setting] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_refused(tmp_path, setting)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("model.enc_score_head.bias"), r"class_head\.bias is missing"),
        (lambda state: state.update({"model.more.weight": torch.zeros(1)}), "model.more.weight"),
        (
            lambda state: state.update({"model.enc_score_head.bias": torch.zeros(3)}),
            r"is \(3,\), not \(7,\)",
        ),
        (lambda state: state.pop("model.decoder.layers.0.mlp.up_proj.weight"), "ffn.up"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_one_line_with_its_path(
    change, problem: str, tmp_path: Path
):
    write_theirs(tmp_path, small_deimv2)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    assert_refused(tmp_path, problem)


def test_other_numbers_of_classes_and_queries_keep_what_is_known(tmp_path: Path):
    small_deimv2("pico", id2label={0: "cat", 1: "dog"}, num_labels=2).save_pretrained(tmp_path)
    whole = setmatch.load(tmp_path)
    part = setmatch.load(
        tmp_path, categories=Categories((3, 4, 5), ("a", "dog", "b")), num_queries=6
    )
    for theirs, ours in zip(whole.decoder.class_heads, part.decoder.class_heads, strict=True):
        assert torch.equal(theirs.weight[1], ours.weight[1])
        assert ours.weight.shape[0] == 3
    assert part.num_queries == 6
