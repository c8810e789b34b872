"""Against transformers' Conditional DETR and DAB-DETR: predictions, losses, and authors' files."""

import argparse
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import setmatch
from setmatch.models.weights.classes.coco import COCO_CLASSES
from thorough import usually

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    replace_hub,
)
from .set_losses import assert_losses_of_placed_queries_agree
from .small_placed_detr import CASES, every_layer, small_placed_detr

USUAL = ("conditional", "dab", "dab_patterns")
SQUARE, WIDE = (64, 64), (64, 96)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in USUAL else pytest.mark.campaign) for case in CASES],
)
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = small_placed_detr(case)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    sizes = ((SQUARE, 2), (WIDE, 1))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)
    kind = case.partition("_")[0]
    assert model.card.preset == f"{kind}_detr_r50{'_dc5' if 'dc5' in case else ''}"


@pytest.mark.parametrize("case", ["dab", pytest.param("conditional", marks=pytest.mark.campaign)])
def test_every_loss_and_its_gradients(case: str, tmp_path: Path):
    reference = small_placed_detr(case)
    reference.save_pretrained(tmp_path)
    assert_losses_of_placed_queries_agree(setmatch.load(tmp_path), reference, (3, 2), WIDE)


# How the authors' codes name what transformers has on the hub, in order.
AUTHORS = (
    (r"^model\.backbone\.conv_encoder\.model\.(_backbone\.)?", "backbone.0.body."),
    (r"^model\.input_projection\.", "input_proj."),
    (r"^model\.query_position_embeddings\.", "query_embed."),
    (r"^model\.query_refpoint_embeddings\.", "refpoint_embed."),
    (r"^model\.patterns\.", "transformer.patterns."),
    (r"^class_labels_classifier\.", "class_embed."),
    (r"^bbox_predictor\.", "bbox_embed."),
    (r"^model\.decoder\.layernorm\.", "transformer.decoder.norm."),
    (r"^model\.", "transformer."),
    (r"self_attn\.self_attn_query_content_proj", "sa_qcontent_proj"),
    (r"self_attn\.self_attn_query_pos_proj", "sa_qpos_proj"),
    (r"self_attn\.self_attn_key_content_proj", "sa_kcontent_proj"),
    (r"self_attn\.self_attn_key_pos_proj", "sa_kpos_proj"),
    (r"self_attn\.self_attn_value_proj", "sa_v_proj"),
    (r"cross_attn\.cross_attn_query_content_proj", "ca_qcontent_proj"),
    (r"cross_attn\.cross_attn_query_pos_proj", "ca_qpos_proj"),
    (r"cross_attn\.cross_attn_key_content_proj", "ca_kcontent_proj"),
    (r"cross_attn\.cross_attn_key_pos_proj", "ca_kpos_proj"),
    (r"cross_attn\.cross_attn_value_proj", "ca_v_proj"),
    (r"cross_attn\.cross_attn_query_pos_sine_proj", "ca_qpos_sine_proj"),
    (r"(self|cross)_attn\.(self|cross)_attn\.output_proj", r"\1_attn.out_proj"),
    (r"encoder_attn\.", "cross_attn."),
    (r"(\.encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(\.encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(\.decoder\.layers\.\d+)\.(self_attn\.)?self_attn_layer_norm\.", r"\1.norm1."),
    (r"(\.decoder\.layers\.\d+)\.(cross_attn\.)?cross_attn_layer_norm\.", r"\1.norm2."),
    (r"(\.decoder\.layers\.\d+)\.cross_attn_layer_norm\.", r"\1.norm2."),
    (r"\.encoder_attn_layer_norm\.", ".norm2."),
    (r"(\.decoder\.layers\.\d+)\.(mlp\.)?final_layer_norm\.", r"\1.norm3."),
    (r"\.(mlp\.)?fc(\d)\.", r".linear\2."),
    (r"\.(mlp\.)?activation_fn\.", ".activation."),
)
PROJECTION = re.compile(r"(.+\.encoder\..+\.self_attn)\.([qkv])_proj\.(weight|bias)")


def _authors_state(folder: Path) -> dict[str, Tensor]:
    """The tensors of a folder as the authors' codes store them."""
    theirs: dict[str, Tensor] = {}
    packed: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(folder / "model.safetensors").items():
        name = key
        for pattern, replacement in AUTHORS:
            name = re.sub(pattern, replacement, name)
        if match := PROJECTION.fullmatch(name):
            packed.setdefault(f"{match[1]}.in_proj_{match[3]}", {})[match[2]] = value
        else:
            theirs[name] = value
    theirs |= {name: torch.cat([parts[p] for p in "qkv"]) for name, parts in packed.items()}
    if "refpoint_embed.weight" in theirs:  # whose heads stand inside of the decoder as well
        heads = {k: v for k, v in theirs.items() if k.startswith("bbox_embed.")}
        theirs |= {f"transformer.decoder.{key}": value for key, value in heads.items()}
    return theirs


@pytest.mark.parametrize("case", usually(["conditional", "dab", "dab_patterns"], "dab_patterns"))
def test_the_authors_file_is_read_as_they_wrote_it(case: str, tmp_path: Path, caplog):
    changes = {"encoder_attention_heads": 8, "num_labels": 91}
    small_placed_detr(case, **changes).save_pretrained(tmp_path / "theirs")
    state = _authors_state(tmp_path / "theirs")
    settings = argparse.Namespace(nheads=8, dropout=0.0, dilation=False)
    torch.save({"model": state, "args": settings}, tmp_path / "checkpoint.pth")
    torch.save({"model": state}, tmp_path / "bare.pth")
    pixels = random_pixels(WIDE, 1, torch.float32)
    expected = predictions_of(setmatch.load(tmp_path / "theirs"), pixels)
    for file in ("checkpoint.pth", "bare.pth"):
        model = setmatch.load(tmp_path / file)
        found = predictions_of(model, pixels)
        assert torch.allclose(found.logits, expected.logits, atol=1e-5)
        assert torch.allclose(found.cxcywh, expected.cxcywh, atol=1e-6)
        assert model.card.categories == COCO_CLASSES
    assert "assumed nheads, dropout, dilation as published" in caplog.text


@pytest.mark.parametrize("name", ["pe_temperatureH", "pe_temperatureW"])
def test_other_temperatures_of_an_authors_file_are_refused(name: str, tmp_path: Path):
    """No tensor shows them, and boxes would be wrong in silence."""
    small_placed_detr("dab").save_pretrained(tmp_path / "theirs")
    state = _authors_state(tmp_path / "theirs")
    for value in (20, 10000):
        settings = argparse.Namespace(nheads=8, dropout=0.0, dilation=False, **{name: value})
        torch.save({"model": state, "args": settings}, tmp_path / f"{value}.pth")
    setmatch.load(tmp_path / "20.pth")
    assert_refused(tmp_path / "10000.pth", name)


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("case", "changes", "problem"),
    [
        ("conditional", {"position_embedding_type": "learned"}, "position_embedding_type"),
        ("dab", {"keep_query_pos": True}, "keep_query_pos"),
        ("dab", {"temperature_width": 10000}, "temperature_width"),
    ],
)
def test_a_model_that_is_not_read_is_refused(
    case: str, changes: dict, problem: str, tmp_path: Path
):
    small_placed_detr(case, **changes).save_pretrained(tmp_path)
    assert_refused(tmp_path, problem)


@pytest.mark.campaign
def test_a_missing_tensor_is_named(tmp_path: Path):
    small_placed_detr("dab").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if "ref_anchor_head.layers.1.bias" not in k}
    save_file(kept, path, metadata={"format": "pt"})
    assert_refused(tmp_path, r"decoder\.sides\.layers\.1\.bias is missing")


@pytest.mark.campaign
def test_published_names_are_repositories(monkeypatch, tmp_path: Path):
    """The hub is replaced by a folder."""
    small_placed_detr("conditional").save_pretrained(tmp_path)
    asked = replace_hub(tmp_path, monkeypatch)
    assert setmatch.load("conditional_detr_r50").card.license == "Apache-2.0"
    assert {repository for repository, _ in asked} == {"microsoft/conditional-detr-resnet-50"}


@pytest.mark.parametrize("preset", ["conditional_detr_r50", "dab_detr_r50"])
def test_presets_have_the_published_number_of_parameters(preset: str):
    """44 million for 91 classes, as their authors list."""
    assert millions_of_parameters(preset, 91) == pytest.approx(44, abs=0.7)


def test_boxes_are_added_and_left_out_with_all_their_patterns(tmp_path: Path):
    small_placed_detr("dab_patterns").save_pretrained(tmp_path)
    whole = predictions_of(setmatch.load(tmp_path), random_pixels(WIDE, 1, torch.float32))
    assert whole.logits.shape[2] == 3 * 12
    fewer = setmatch.load(tmp_path, num_queries=5)
    assert fewer.num_queries == 3 * 5
    assert fewer.card.arguments["patterns"] == 3
    assert setmatch.load(tmp_path, num_queries=14).num_queries == 3 * 14
