"""Against transformers' Deformable DETR, and the layout of the authors' files."""

import argparse
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import setmatch
from setmatch.models.weights.classes.coco import COCO_CLASSES
from setmatch.structures.batch import Batch

from .comparison import (
    assert_every_layer_predicts_the_same,
    assert_refused,
    millions_of_parameters,
    predictions_of,
    random_pixels,
    replace_hub,
)
from .small_deformable_detr import CASES, every_layer, small_deformable_detr

SQUARE, WIDE = (64, 64), (64, 96)


def _cases(always: tuple[str, ...]) -> list:
    marks = {case: () if case in always else pytest.mark.campaign for case in CASES}
    return [pytest.param(case, marks=mark, id=case) for case, mark in marks.items()]


@pytest.mark.parametrize("case", _cases(("plain", "two_stage", "no_encoder")))
def test_every_decoder_layer_predicts_what_transformers_does(case: str, tmp_path: Path):
    reference = small_deformable_detr(case)
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    sizes = ((SQUARE, 2), (WIDE, 1))
    assert_every_layer_predicts_the_same(model, reference, every_layer, sizes)
    kind = case.removesuffix("_wide").removesuffix("_shared")
    kind = "refine" if kind == "no_encoder" else kind
    kind = f"_{kind}" if kind in ("refine", "two_stage") or "single" in kind else ""
    assert model.card.preset == f"deformable_detr_r50{kind}"


def test_a_padded_batch_predicts_what_transformers_does(tmp_path: Path):
    """Padding reaches the borders of an image, as published."""
    reference = small_deformable_detr("refine")
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    batch = Batch.from_images([torch.randn(3, 96, 128), torch.randn(3, 128, 64)])
    assert batch.padded
    with torch.no_grad():
        ours = model(batch)[0].predictions
        theirs = reference(pixel_values=batch.pixels, pixel_mask=batch.valid.long())
    assert torch.allclose(ours.logits[-1], theirs.logits, atol=1e-4)
    assert torch.allclose(ours.cxcywh[-1], theirs.pred_boxes, atol=1e-5)


@pytest.mark.campaign
def test_the_encoder_proposes_what_transformers_does(tmp_path: Path):
    """The class head of the encoder keeps the one column that chooses tokens."""
    reference = small_deformable_detr("two_stage")
    reference.save_pretrained(tmp_path)
    model = setmatch.load(tmp_path)
    batch = Batch.from_images(list(random_pixels(WIDE, 2, torch.float32)))
    with torch.no_grad():
        theirs = reference(pixel_values=batch.pixels)
        tokens = model.queries(model.encoder(model.feature_levels(batch), batch)).tokens
    assert torch.allclose(tokens.logits, theirs.enc_outputs_class[..., :1], atol=1e-4)
    assert torch.allclose(tokens.cxcywh, theirs.enc_outputs_coord_logits.sigmoid(), atol=1e-5)


# How the authors' code names what transformers has on the hub, in order.
AUTHORS = (
    (r"^model\.backbone\.conv_encoder\.model\.", "backbone.0.body."),
    (r"^model\.(input_proj\.)", r"\1"),
    (r"^model\.query_position_embeddings\.", "query_embed."),
    (r"^model\.", "transformer."),
    (r"(\.encoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm1."),
    (r"(\.encoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm2."),
    (r"(\.decoder\.layers\.\d+)\.encoder_attn_layer_norm\.", r"\1.norm1."),
    (r"(\.decoder\.layers\.\d+)\.self_attn_layer_norm\.", r"\1.norm2."),
    (r"(\.decoder\.layers\.\d+)\.final_layer_norm\.", r"\1.norm3."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.fc(\d)\.", r".linear\1."),
)
PROJECTION = re.compile(r"(.+\.self_attn)\.([qkv])_proj\.(weight|bias)")


def _authors_state(folder: Path, layers: int) -> dict[str, Tensor]:
    """The tensors of a folder as the authors' code stores them, with heads in both places."""
    theirs: dict[str, Tensor] = {}
    packed: dict[str, list[Tensor]] = {}
    for key, value in sorted(load_file(folder / "model.safetensors").items()):
        name = key
        for pattern, replacement in AUTHORS:
            name = re.sub(pattern, replacement, name)
        if match := PROJECTION.fullmatch(name):
            packed.setdefault(f"{match[1]}.in_proj_{match[3]}", []).append((match[2], value))
        else:
            theirs[name] = value
    order = "qkv"
    for name, parts in packed.items():
        theirs[name] = torch.cat([v for _, v in sorted(parts, key=lambda p: order.index(p[0]))])
    for key in [key for key in theirs if "_embed.0." in key]:
        for layer in range(1, layers):  # transformers keeps the first of heads that all share
            theirs.setdefault(key.replace("_embed.0.", f"_embed.{layer}."), theirs[key])
    for key in [key for key in theirs if key.startswith("transformer.decoder.")]:
        if "_embed." in key:
            theirs.setdefault(key.removeprefix("transformer.decoder."), theirs[key])
    return theirs


@pytest.mark.parametrize(
    "case",
    [
        "refine",
        *(pytest.param(each, marks=pytest.mark.campaign) for each in ("plain", "two_stage")),
    ],
)
def test_the_authors_file_is_read_as_they_wrote_it(case: str, tmp_path: Path):
    config = {"encoder_attention_heads": 8, "encoder_n_points": 2}
    small_deformable_detr(case, **config).save_pretrained(tmp_path / "theirs")
    state = _authors_state(tmp_path / "theirs", 3 + (case == "two_stage"))
    settings = argparse.Namespace(nheads=8, num_queries=15, dropout=0.0, dilation=False)
    torch.save({"model": state, "args": settings, "epoch": 49}, tmp_path / "checkpoint.pth")
    pixels = random_pixels(WIDE, 1, torch.float32)
    expected = predictions_of(setmatch.load(tmp_path / "theirs"), pixels)
    model = setmatch.load(tmp_path / "checkpoint.pth")
    assert torch.allclose(predictions_of(model, pixels).logits, expected.logits, atol=1e-5)
    assert torch.allclose(predictions_of(model, pixels).cxcywh, expected.cxcywh, atol=1e-6)
    assert model.card.arguments["dropout"] == 0.0


@pytest.mark.campaign
def test_what_the_authors_file_lacks_is_assumed_and_said(tmp_path: Path, caplog):
    small_deformable_detr("plain", num_labels=91).save_pretrained(tmp_path / "theirs")
    state = _authors_state(tmp_path / "theirs", 3)
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "model.pth")
    with pytest.raises(setmatch.errors.WeightsError, match=r"points|attention"):
        setmatch.load(tmp_path / "model.pth")  # 8 heads have not 3 points each
    same = {"encoder_attention_heads": 8, "encoder_n_points": 2}
    small_deformable_detr("plain", num_labels=91, **same).save_pretrained(tmp_path / "eight")
    torch.save({"model": _authors_state(tmp_path / "eight", 3)}, tmp_path / "model.pth")
    model = setmatch.load(tmp_path / "model.pth")
    assert "assumed dropout, nheads, num_queries as published" in caplog.text
    assert model.card.categories == COCO_CLASSES
    assert model.card.arguments["heads"] == 8


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("case", "changes", "problem"),
    [
        ("plain", {"position_embedding_type": "learned"}, "position_embedding_type"),
        ("plain", {"activation_function": "gelu"}, "activation_function"),
        ("plain", {"dilation": True, "backbone": "resnet50"}, "dilated backbone"),
        ("plain", {"tie_word_embeddings": False}, "heads of their own"),
        ("plain", {"num_feature_levels": 3, "backbone": "resnet26"}, "its backbone is none of"),
    ],
)
def test_a_model_that_nobody_published_is_refused(
    case: str, changes: dict, problem: str, tmp_path: Path
):
    small_deformable_detr(case, **changes).save_pretrained(tmp_path)
    assert_refused(tmp_path, problem)


def test_a_backbone_of_the_same_tensors_that_computes_something_else_is_refused(tmp_path: Path):
    reference = small_deformable_detr("own_resnet")
    reference.config.backbone_config.hidden_act = "gelu"
    reference.save_pretrained(tmp_path)
    assert_refused(tmp_path, r"hidden_act \('gelu'\); read are resnet18, resnet34")


def test_two_sets_of_heads_are_refused(tmp_path: Path):
    """One corrects the boxes that layers look around, the other those that are predicted."""
    reference = small_deformable_detr("refine")
    with torch.no_grad():
        reference.bbox_embed[1].layers[0].bias += 1
    reference.save_pretrained(tmp_path)
    assert_refused(tmp_path, r"bbox_embed\.1\.layers\.0\.bias differs inside and outside")


@pytest.mark.campaign
def test_a_missing_tensor_is_named(tmp_path: Path):
    small_deformable_detr("two_stage").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if k != "model.pos_trans_norm.bias"}
    save_file(kept, path, metadata={"format": "pt"})
    assert_refused(tmp_path, r"queries\.expand\.1\.bias is missing")


@pytest.mark.campaign
def test_a_published_name_is_its_repository_at_a_fixed_commit(monkeypatch, tmp_path: Path):
    """The hub is replaced by a folder; a file that is not the published one is refused."""
    small_deformable_detr("plain").save_pretrained(tmp_path)
    asked = replace_hub(tmp_path, monkeypatch)
    with pytest.raises(setmatch.errors.WeightsError, match=r"model\.safetensors: its SHA-256"):
        setmatch.load("deformable_detr_r50_refine")
    revision = "2e9e461623a8fdc296e19666c46c8a4389a3a6fe"
    assert asked == [("SenseTime/deformable-detr-with-box-refine", revision)]


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        ("deformable_detr_r50", 40),
        ("deformable_detr_r50_single_scale", 34),
        ("deformable_detr_r50_single_scale_dc5", 34),
        ("deformable_detr_r50_refine", 41),
        ("deformable_detr_r50_two_stage", 41),
    ],
)
def test_presets_have_the_published_number_of_parameters(preset: str, millions: float):
    """Those that the authors' README lists for 91 classes, in millions."""
    assert millions_of_parameters(preset, 91) == pytest.approx(millions, abs=0.51)
