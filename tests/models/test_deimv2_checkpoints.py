"""Files and folders of DEIMv2's published code: what they tell, and what is assumed."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import setmatch
from known_models import SMALL_DEIMV2
from setmatch.errors import WeightsError
from setmatch.models.deimv2.checkpoint import PUBLISHED, SCALE
from setmatch.models.deimv2.key_map import ORIGINAL
from setmatch.models.detector import Detector
from setmatch.models.registry import build
from setmatch.models.weights.classes.coco import COCO_THINGS
from setmatch.models.weights.layouts.hybrid_folder import points_scale
from setmatch.models.weights.layouts.key_map import to_layout
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

SMALL_N = SMALL_DEIMV2 | {
    "stage_inner": (8, 8, 12, 16),
    "stage_out": (16, 24, 32, 48),
    "encoder_heads": 8,
    "encoder_ffn_dim": 48,
}


def _model(preset: str = "deimv2_pico", categories: Categories = COCO_THINGS) -> Detector:
    """With as many queries as are published, and no weights that are equal."""
    torch.manual_seed(0)
    sizes = dict(SMALL_N if preset == "deimv2_n" else SMALL_DEIMV2)
    sizes["num_queries"] = {"deimv2_n": 300, "deimv2_pico": 200}[preset]
    sizes["denoising_queries"] = 100
    model = build(ModelCard(preset, sizes, categories, Preprocessing())).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.05 * torch.randn(weights.shape)
    return model


def _published(model: Detector) -> dict[str, torch.Tensor]:
    """The tensors of a model as the published code saves them."""
    shape = model.card.arguments
    ours = {key: v for key, v in model.state_dict().items() if "num_batches" not in key}
    state = to_layout(ours, ORIGINAL)
    if not shape["gate"]:
        return _lite(state) | _computed(shape)
    gates = {key: key.replace(".norm2.scale", ".gateway.norm.scale") for key in state}
    return {gates[key]: value for key, value in state.items()} | _computed(shape)


def _computed(shape: dict) -> dict[str, torch.Tensor]:
    layers, points = range(shape["decoder_layers"]), shape["points"]
    return {
        **{SCALE.format(layer): points_scale(points) for layer in layers},
        "decoder.anchors": torch.zeros(1, 4, 4),
        "decoder.valid_mask": torch.ones(1, 4, 1, dtype=torch.bool),
        "decoder.decoder.up": torch.tensor([0.5]),
        "decoder.decoder.reg_scale": torch.tensor([4.0]),
    }


def _lite(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One block for each direction, and the head of edges once for every layer."""
    renamed = {re.sub(r"(fpn|pan)_blocks\.0", r"\1_block", key): state[key] for key in state}
    heads = {key: value for key, value in renamed.items() if "dec_bbox_head.0." in key}
    return renamed | {key.replace("head.0.", "head.1."): heads[key].clone() for key in heads}


def _predict(model: Detector) -> torch.Tensor:
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = model(Batch.from_images(list(pixels)))[0].predictions
    return torch.cat([predictions.logits, predictions.cxcywh], dim=-1)


@pytest.mark.parametrize("preset", ["deimv2_pico", "deimv2_n"])
def test_a_file_of_the_published_code_loads(preset: str, tmp_path: Path, caplog):
    model = _model(preset)
    state = {f"module.{key}": value for key, value in _published(model).items()}
    torch.save({"ema": {"module": state}, "last_epoch": 3}, tmp_path / "mine.pth")
    again = setmatch.load(tmp_path / "mine.pth")
    assert torch.allclose(_predict(again), _predict(model), atol=1e-5)
    assert again.card.preset == preset
    assert again.card.arguments == model.card.arguments
    assert again.card.categories == COCO_THINGS
    assert again.card.preprocessing.size_px == (640, 640)
    assert "assumed" in caplog.text
    assert again.card.license == "unknown"


@pytest.mark.parametrize("head", [0, 1])
def test_a_folder_of_the_hub_has_shared_tensors_once(head: int, tmp_path: Path):
    """Any of those that are equal; its settings are those of the published code."""
    model = _model()
    state = _published(model)
    dropped = ("decoder.up", "decoder.reg_scale") if head else ("decoder.decoder.up",)
    kept = {
        key: value.contiguous()
        for key, value in state.items()
        if key not in dropped and f"dec_bbox_head.{1 - head}." not in key
    }
    save_file(kept, tmp_path / "model.safetensors")
    settings = {"DEIMTransformer": {"num_queries": 200, "eval_spatial_size": [320, 416]}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    again = setmatch.load(tmp_path)
    assert torch.allclose(_predict(again), _predict(model), atol=1e-5)
    assert again.card.preprocessing.size_px == (320, 416)
    assert again.card.arguments["shared_edge_head"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"DEIMTransformer": {"num_queries": "many"}}, "num_queries"),
        ({"DEIMTransformer": {"eval_spatial_size": [0, 640]}}, "side_px|size_px"),
    ],
)
def test_settings_of_another_model_are_one_line(settings: dict, problem: str, tmp_path: Path):
    save_file(
        {key: value.contiguous() for key, value in _published(_model()).items()},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match=problem) as caught:
        setmatch.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_those_of_the_authors_repositories(name: str, monkeypatch):
    """Without a network, the error says where its files are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=f"{name}: {PUBLISHED[name].repository}"):
        setmatch.load(name)


def test_tensors_of_a_part_that_is_missing_are_one_line(tmp_path: Path):
    state = _published(_model())
    del state["decoder.decoder.layers.1.swish_ffn.w3.weight"]
    torch.save({"model": state}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=r"ffn\.down\.weight is missing") as caught:
        setmatch.load(tmp_path / "mine.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["original", "transformers"])
def test_a_model_on_dinov3_is_refused_for_what_it_is(layout: str, tmp_path: Path):
    if layout == "original":
        state = _published(_model()) | {"backbone.dinov3.cls_token": torch.zeros(1)}
        settings = {}
    else:
        names = ("layers.0.mlp.gate_proj", "pre_bbox_head.layers.0")
        state = {f"model.decoder.{name}.weight": torch.zeros(1) for name in names}
        settings = {"model_type": "deimv2", "backbone_config": {"model_type": "dinov3_vit"}}
    contiguous = {key: value.contiguous() for key, value in state.items()}
    save_file(contiguous, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(WeightsError, match="on DINOv3, whose weights have terms") as caught:
        setmatch.load(tmp_path)
    assert "\n" not in str(caught.value)
