"""Files of LW-DETR's published code: what they tell, what is assumed, and on what terms."""

import argparse
from pathlib import Path

import pytest
import torch

import setmatch
from known_models import SMALL_LWDETR
from setmatch.errors import WeightsError
from setmatch.models.detector import Detector
from setmatch.models.lwdetr.checkpoint import PUBLISHED, REQUIRED_ARGS
from setmatch.models.lwdetr.key_map import ORIGINAL
from setmatch.models.registry import build
from setmatch.models.weights.classes.coco import COCO_CLASSES
from setmatch.models.weights.layouts.key_map import to_layout
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

ARGS = {
    "sa_nheads": 4,
    "ca_nheads": 8,
    "window_block_indexes": [0, 2],
    "out_feature_indexes": [0, 1, 3],
}
FOUR = Categories((0, 1, 2, 3), ("a", "b", "c", "d"))


def _published(model: Detector) -> dict[str, torch.Tensor]:
    """The tensors of a model as the published code has them: queries in a row, a class token."""
    state = {key: v for key, v in model.state_dict().items() if "num_batches" not in key}
    for name in ("queries.content", "queries.places"):
        state[name] = state[name].flatten(0, 1)
    position = state["backbone.position"]
    state["backbone.position"] = torch.cat([torch.ones_like(position[:, :1]), position], dim=1)
    return to_layout(state, ORIGINAL)


def _model(categories: Categories = COCO_CLASSES, **arguments) -> Detector:
    """With twelve heads and 4 x 4 windows, as every published one has."""
    torch.manual_seed(0)
    sizes = {**SMALL_LWDETR, "backbone_heads": 12, "windows": 4, **arguments}
    return build(ModelCard("lwdetr_s", sizes, categories, Preprocessing())).eval()


def _predict(model: Detector) -> torch.Tensor:
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        predictions = model(Batch.from_images(list(pixels)))[0].predictions
    return torch.cat([predictions.logits, predictions.cxcywh], dim=-1)


@pytest.mark.parametrize(
    ("prefix", "plain", "sizes"),
    [
        ("", True, {}),
        ("module.", False, {"scales": (1.0,)}),
        ("", False, {"backbone_dim": 516, "backbone_ffn_dim": 24, "scales": (1.0, 2.0)}),
    ],
    ids=str,
)
def test_a_file_of_the_published_code_loads_with_its_settings(
    prefix: str, plain: bool, sizes: dict, tmp_path: Path
):
    model = _model(**sizes)
    tensors = {prefix + key: value for key, value in _published(model).items()}
    args = ARGS if plain else argparse.Namespace(**ARGS)
    torch.save({"model": tensors, "args": args, "epoch": 3}, tmp_path / "mine.pth")
    again = setmatch.load(tmp_path / "mine.pth")
    assert torch.equal(_predict(again), _predict(model))
    assert again.card.preprocessing == Preprocessing(640, 640, size_px=(640, 640))
    assert again.card.categories == COCO_CLASSES
    assert again.card.license == "unknown"
    assert again.card.arguments == model.card.arguments


def test_what_a_file_does_not_tell_is_that_of_the_nearest_preset(tmp_path: Path, caplog):
    few = {"query_groups": 1, "num_queries": 5}
    for preset in ("lwdetr_t", "lwdetr_s"):
        model = build(ModelCard(preset, few, COCO_CLASSES)).eval()
        torch.save(_published(model), tmp_path / "mine.pth")
        again = setmatch.load(tmp_path / "mine.pth")
        assert again.card.preset == preset
        assert again.card.arguments == model.card.arguments
    assert "assumed sa_nheads, ca_nheads, window_block_indexes, out_feature_inde" in caplog.text


@pytest.mark.parametrize(
    ("file", "trained_from", "terms"),
    [
        ("LWDETR_small_60e_coco.pth", None, "objects365"),
        ("LWDETR_xlarge_30e_objects365.pth", None, "objects365"),
        ("mine.pth", "pretrain_weights/LWDETR_tiny_30e_objects365.pth", "objects365"),
        ("mine.pth", "output/LWDETR_tiny_60e_coco.pth", "objects365"),
        ("lwdetr_of_parts.pth", None, None),
    ],
)
def test_weights_with_terms_are_refused_until_these_are_accepted(
    file: str, trained_from: str | None, terms: str | None, tmp_path: Path
):
    args = ARGS | {"pretrain_weights": trained_from}
    torch.save({"model": _published(_model(FOUR)), "args": args}, tmp_path / file)
    if terms is not None:
        with pytest.raises(WeightsError, match=f'accept_license="{terms}"') as caught:
            setmatch.load(tmp_path / file)
        assert "\n" not in str(caught.value)
    license = setmatch.load(tmp_path / file, accept_license=terms).card.license
    assert license == (terms or "unknown")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_are_checked_by_their_hash(name: str, tmp_path: Path, monkeypatch):
    """A file that is not what was published is refused; without a network the address is named."""
    published = PUBLISHED[name]
    monkeypatch.setattr("setmatch.models.weights.downloads.download.cache_folder", lambda: tmp_path)

    def unreachable(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("setmatch.models.weights.downloads.download.download", unreachable)
    with pytest.raises(WeightsError, match=rf"{published.url}.*put it at .*{published.name}"):
        setmatch.load(name)
    torch.save({"model": {}}, tmp_path / published.name)
    with pytest.raises(WeightsError, match=f"its SHA-256 starts with .*{published.digest[:8]}"):
        setmatch.load(name)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sa_nheads": 5}, "heads"),
        ({"ca_nheads": 0}, "cross_heads"),
        ({"ca_nheads": "many"}, "mine.pth"),
        ({"out_feature_indexes": [3, 1]}, "outputs"),
        ({"out_feature_indexes": [1, 5]}, "missing|does not fit"),
        ({"window_block_indexes": "all"}, "TypeError"),
    ],
)
def test_settings_of_another_model_are_one_line(change: dict, problem: str, tmp_path: Path):
    torch.save({"model": _published(_model(FOUR)), "args": ARGS | change}, tmp_path / "mine.pth")
    with pytest.raises(WeightsError, match=problem) as caught:
        setmatch.load(tmp_path / "mine.pth")
    assert str(tmp_path / "mine.pth") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("bbox_reparam", False), ("lite_refpoint_refine", False), ("two_stage", False)],
)
def test_a_form_that_no_tensor_shows_and_that_is_not_read_is_refused(
    name: str, value: object, tmp_path: Path
):
    """Its boxes would be decoded as those of another model."""
    torch.save({"model": _published(_model()), "args": ARGS | REQUIRED_ARGS}, tmp_path / "mine.pth")
    setmatch.load(tmp_path / "mine.pth")
    args = argparse.Namespace(**ARGS | REQUIRED_ARGS | {name: value})
    torch.save({"model": _published(_model()), "args": args}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=rf"other.pth: its args .*{name} \({value}\)") as caught:
        setmatch.load(tmp_path / "other.pth")
    assert "\n" not in str(caught.value)
