"""Against transformers' LW-DETR, built from its config."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import setmatch
from setmatch.structures.metadata import Categories, Preprocessing
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    write_theirs,
)
from .small_lwdetr import CASES, PUBLISHED, every_layer, published_lwdetr, small_lwdetr

TRAINED, SQUARE, WIDE, TALL = (24, 24), (64, 64), (48, 80), (96, 32)


@pytest.mark.parametrize("case", usually(CASES, "l", "x", "other"))
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = small_lwdetr(case)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    sizes = ((SQUARE, 2), (WIDE, 1), (TALL, 2), (TRAINED, 1))
    if case == "m":  # whose images are cut into more windows
        sizes = ((SQUARE, 2), ((48, 96), 1))
    if case == "x":
        sizes = (((32, 32), 2), ((24, 40), 1))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)


@pytest.mark.campaign
@pytest.mark.parametrize("size", PUBLISHED)
def test_models_of_published_sizes_predict_what_transformers_does(size: str, tmp_path: Path):
    """On images of their size, and on rectangles."""
    reference = published_lwdetr(size)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    assert model.card.preset == f"lwdetr_{size}"
    sizes = (((640, 640), 1), ((512, 640), 2))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)


def test_the_sizes_of_published_models_are_those_of_their_names():
    """Parameters in millions, as the authors give them."""
    for name, millions in (("t", 12.1), ("s", 14.6), ("m", 28.2), ("l", 46.8), ("x", 118.0)):
        assert millions_of_parameters(f"lwdetr_{name}", 91) == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("left_out", ["out_features", "out_indices"])
def test_a_config_names_or_numbers_the_maps_that_are_used(left_out: str, tmp_path: Path):
    write_theirs(tmp_path, small_lwdetr, "l")
    config = json.loads((tmp_path / "config.json").read_text())
    del config["backbone_config"][left_out]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert setmatch.load(tmp_path).card.arguments["outputs"] == (2, 3)


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("config", "decoder_activation_function", "gelu"),
        ("config", "activation_function", "relu"),
        ("config", "attention_bias", False),
        ("config", "batch_norm_eps", 1e-3),
        ("backbone", "use_absolute_position_embeddings", False),
        ("backbone", "qkv_bias", False),
        ("backbone", "hidden_act", "relu"),
        ("backbone", "out_features", ["stem"]),
    ],
)
def test_a_config_of_another_model_is_one_line(
    part: str, setting: str, value: object, tmp_path: Path
):
    write_theirs(tmp_path, small_lwdetr)
    config = json.loads((tmp_path / "config.json").read_text())
    (config if part == "config" else config["backbone_config"])[setting] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert_refused(tmp_path, setting)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("class_embed.bias"), r"decoder\.class_head\.bias is missing"),
        (lambda state: state.update({"class_embed.more": torch.zeros(1)}), "more is unknown"),
        (
            lambda state: state.update({"class_embed.bias": torch.zeros(3)}),
            r"is \(3,\), not \(7,\)",
        ),
        (lambda state: state.pop("model.query_feat.weight"), "queries.content"),
        (lambda state: state.update({"more.part.weight": torch.zeros(1)}), "more.part.weight"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_one_line_with_its_path(
    change, problem: str, tmp_path: Path
):
    write_theirs(tmp_path, small_lwdetr)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    assert_refused(tmp_path, problem)


def test_tensors_by_the_names_that_transformers_has_in_memory_are_read(tmp_path: Path):
    """As of a program that saves the state of the model by itself."""
    reference = small_lwdetr("l")
    reference.save_pretrained(tmp_path)
    before = setmatch.load(tmp_path).state_dict()
    state = {key: value.contiguous() for key, value in reference.state_dict().items()}
    assert set(state) != set(load_file(tmp_path / "model.safetensors"))
    save_file(state, tmp_path / "model.safetensors")
    after = setmatch.load(tmp_path).state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_images_have_the_size_that_the_folder_tells(tmp_path: Path):
    """Without a file about it, squares as published, which are noted."""
    write_theirs(tmp_path, small_lwdetr)
    square = Preprocessing(640, 640, size_px=(640, 640))
    assert setmatch.load(tmp_path).card.preprocessing == square
    settings = {"size": {"height": 96, "width": 128}, "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert setmatch.load(tmp_path).card.preprocessing.size_px == (96, 128)


def test_other_numbers_of_classes_and_queries_keep_what_is_known(tmp_path: Path):
    """Rows of classes by their names; the first queries of every group."""
    small_lwdetr(id2label={0: "cat", 1: "dog"}, num_labels=2).save_pretrained(tmp_path)
    whole = setmatch.load(tmp_path)
    part = setmatch.load(
        tmp_path, categories=Categories((3, 4, 5), ("a", "dog", "b")), num_queries=6
    )
    for theirs, ours in (
        (whole.decoder.class_head, part.decoder.class_head),
        *zip(whole.queries.class_heads, part.queries.class_heads, strict=True),
    ):
        assert torch.equal(theirs.weight[1], ours.weight[1])
        assert ours.weight.shape[0] == 3
    assert torch.equal(part.queries.content, whole.queries.content[:, :6])


def test_images_of_any_size_are_resized_to_whole_windows(tmp_path: Path):
    """At most by half a window; predictions are fractions of the image and need no change."""
    write_theirs(tmp_path, small_lwdetr, "l")
    model = setmatch.load(tmp_path)
    for given, used in (((60, 84), (64, 88)), ((3, 200), (8, 200)), ((65, 61), (64, 64))):
        pixels = random_pixels(given, 1, torch.float32)
        resized = torch.nn.functional.interpolate(pixels, used, mode="bilinear")
        assert torch.allclose(
            predictions_of(model, pixels).cxcywh, predictions_of(model, resized).cxcywh, atol=1e-6
        )
