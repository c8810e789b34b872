"""Models with masks in every layout."""

from pathlib import Path

import pytest
import torch

import setmatch
from setmatch.models.load import convert_weights, save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing
from setmatch.structures.outputs import Predictions
from thorough import usually

SMALL = {
    "dim": 32,
    "heads": 8,
    "ffn_dim": 48,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_queries": 9,
}
PLACES = Categories((3, 7, 20), ("cat", "dog", "grass"), stuff=frozenset({2}))
VARIANTS = ["detr_r50_panoptic", "detr_r50_dc5_panoptic", "detr_r101_panoptic"]


def _outputs(model) -> Predictions:
    torch.manual_seed(1)
    with torch.no_grad():
        return model(Batch.from_images([torch.randn(3, 64, 96)]))[0].predictions


@pytest.fixture(params=usually(VARIANTS, "detr_r50_dc5_panoptic"))
def model(request):
    """A small model with random weights."""
    torch.manual_seed(0)
    return build(
        ModelCard(request.param, SMALL, PLACES, Preprocessing(64, 96), "MIT", "a test")
    ).eval()


def _assert_same(again, model) -> None:
    assert again.card.preset == model.card.preset
    assert again.card.arguments == model.card.arguments
    left, right = model.state_dict(), again.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    before, after = _outputs(model), _outputs(again)
    for part in ("logits", "cxcywh", "masks"):
        assert torch.allclose(getattr(before, part), getattr(after, part), atol=1e-5)


def test_the_original_layout_round_trips(model, tmp_path: Path):
    """From its args alone, dilation too."""
    save(model, tmp_path / "ours")
    convert_weights(tmp_path / "ours", tmp_path / "model.pth", "original")
    _assert_same(setmatch.load(tmp_path / "model.pth"), model)


@pytest.mark.thorough
def test_a_model_survives_all_layouts_in_turn(model, tmp_path: Path):
    """Ours, original, transformers, original, ours."""
    save(model, tmp_path / "ours")
    for source, made, layout in (
        ("ours", "first.pth", "original"),
        ("first.pth", "theirs", "transformers"),
        ("theirs", "second.pth", "original"),
        ("second.pth", "home", "setmatch"),
    ):
        convert_weights(tmp_path / source, tmp_path / made, layout)
    _assert_same(setmatch.load(tmp_path / "home"), model)
