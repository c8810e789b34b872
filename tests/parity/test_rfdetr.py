"""Against transformers' RF-DETR, built from its config."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RfDetrForObjectDetection
from transformers.models.rf_detr.modeling_rf_detr import RfDetrDinov2Embeddings

import setmatch
from setmatch.structures.metadata import Categories
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    write_theirs,
)
from .small_rfdetr import CASES, cut_by_columns, every_layer, small_rfdetr, small_rfdetr_with_masks

TRAINED, SQUARE, WIDE, TALL = (48, 48), (64, 64), (48, 80), (96, 32)


def _saved(case: str, tmp_path: Path) -> RfDetrForObjectDetection:
    model = small_rfdetr(case)
    model.save_pretrained(tmp_path / "theirs")
    return model


@pytest.mark.parametrize("case", usually(CASES, "b", "other", "more_queries_than_anchors"))
def test_every_decoder_layer_predicts_what_transformers_does(
    case: str, tmp_path: Path, monkeypatch
):
    reference = _saved(case, tmp_path)
    model = setmatch.load(tmp_path / "theirs")
    squares, others = ((TRAINED, 1), (SQUARE, 2)), ((WIDE, 1), (TALL, 2))
    assert_every_layer_predicts_the_same(model, reference, every_layer, squares)
    monkeypatch.setattr(RfDetrDinov2Embeddings, "window_partition", cut_by_columns)
    assert_every_layer_predicts_the_same(model, reference, every_layer, others)


@pytest.mark.parametrize("left_out", ["out_features", "out_indices"])
def test_a_config_names_or_numbers_the_maps_that_are_used(left_out: str, tmp_path: Path):
    write_theirs(tmp_path, small_rfdetr, "b")
    whole = setmatch.load(tmp_path).card.arguments
    config = json.loads((tmp_path / "config.json").read_text())
    del config["backbone_config"][left_out]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert setmatch.load(tmp_path).card.arguments == whole
    assert whole["outputs"] == (1, 3)


@pytest.mark.parametrize("case", usually(["n", "b", "other"], "other"))
def test_masks_are_those_of_transformers(case: str, tmp_path: Path, monkeypatch):
    """Relative to the largest logit of a mask, as products of random embeddings are large."""
    reference = small_rfdetr_with_masks(case)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    assert model.card.preset.startswith("rfdetr_seg")
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        reference.to(dtype)
        for size_px, images in ((SQUARE, 2), (WIDE, 1), (TALL, 2)):
            if size_px[0] != size_px[1]:
                monkeypatch.setattr(RfDetrDinov2Embeddings, "window_partition", cut_by_columns)
            pixels = random_pixels(size_px, images, dtype)
            with torch.no_grad():
                theirs = reference(pixel_values=pixels)
            ours = predictions_of(model, pixels)
            assert ours.masks.shape == theirs.pred_masks.shape
            scale = theirs.pred_masks.abs().max()
            assert torch.allclose(ours.masks / scale, theirs.pred_masks / scale, atol=1e-5)
            assert torch.allclose(ours.logits[-1], theirs.logits, atol=1e-4)
            assert torch.allclose(ours.cxcywh[-1], theirs.pred_boxes, atol=1e-5)


def test_the_sizes_of_published_models_are_those_of_their_names():
    """Parameters in millions, as the authors give them."""
    boxes = (("n", 30.5), ("s", 32.1), ("m", 33.7), ("l", 33.9))
    masks = (("seg_n", 33.6), ("seg_s", 33.7), ("seg_m", 35.7))
    for name, millions in (*boxes, *masks):
        assert millions_of_parameters(f"rfdetr_{name}", 91) == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("part", "setting", "value"),
    [
        ("config", "decoder_activation_function", "gelu"),
        ("config", "attention_bias", False),
        ("config", "num_feature_levels", 2),
        ("backbone", "use_swiglu_ffn", True),
        ("backbone", "window_block_indexes", [0, 1]),
        ("backbone", "hidden_act", "relu"),
        ("backbone", "apply_layernorm", False),
    ],
)
def test_a_config_of_another_model_is_one_line(
    part: str, setting: str, value: object, tmp_path: Path
):
    write_theirs(tmp_path, small_rfdetr)
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
        (lambda state: state.pop("query_feat.weight"), "queries.content"),
    ],
)
def test_a_checkpoint_with_other_tensors_is_one_line_with_its_path(
    change, problem: str, tmp_path: Path
):
    write_theirs(tmp_path, small_rfdetr)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    assert_refused(tmp_path, problem)


def test_other_numbers_of_classes_and_queries_keep_what_is_known(tmp_path: Path):
    """Rows of classes by their names; the first queries of every group."""
    small_rfdetr(id2label={0: "cat", 1: "dog"}, num_labels=2).save_pretrained(tmp_path)
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
    assert torch.equal(part.queries.places, whole.queries.places[:, :6])
    more = setmatch.load(tmp_path, num_queries=30)
    assert torch.equal(more.queries.content[:, :20], whole.queries.content)
    assert predictions_of(more, random_pixels(SQUARE, 1, torch.float32)).logits.shape[2] == 30


def test_images_of_any_size_are_resized_to_whole_windows(tmp_path: Path):
    """At most by half a window; predictions are fractions of the image and need no change."""
    write_theirs(tmp_path, small_rfdetr)
    model = setmatch.load(tmp_path)
    for given, used in (((60, 84), (64, 88)), ((3, 200), (8, 200)), ((65, 61), (64, 64))):
        pixels = random_pixels(given, 1, torch.float32)
        resized = torch.nn.functional.interpolate(pixels, used, mode="bilinear")
        assert torch.allclose(
            predictions_of(model, pixels).cxcywh, predictions_of(model, resized).cxcywh, atol=1e-6
        )
