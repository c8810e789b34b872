"""The family on trunks of timm: built by name, saved by name, refused in plain words."""

import sys
from pathlib import Path

import pytest
import timm
import torch

import setmatch
from setmatch.errors import ConfigError, ExtraMissingError, WeightsError
from setmatch.models.backbones.timm import HalvedByMean, TimmBackbone
from setmatch.models.initialize import initialize
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard

NAMES = Categories((0, 1), ("a", "b"))
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 6}


def card(trunk: str) -> ModelCard:
    return ModelCard("setmatch_timm", {**SMALL, "trunk": trunk}, NAMES)


def test_a_trunk_of_timm_answers_learns_and_comes_back(tmp_path: Path):
    """Every parameter has a gradient, the trunk's in a group of its own; the card names it."""
    torch.manual_seed(0)
    model = build(card("resnet10t")).train()
    batch = Batch.from_images([torch.randn(3, 64, 96)] * 2)
    streams = model(batch, [Target(torch.tensor([1]), torch.full((1, 4), 0.4))] * 2)
    sum(s.predictions.logits.sum() + s.predictions.cxcywh.sum() for s in streams).backward()
    assert [name for name, p in model.backbone.named_parameters() if p.grad is None] == []
    groups = model.parameter_groups()
    assert len(groups["backbone"]) == len(list(model.backbone.parameters()))
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    save(model, tmp_path)
    again = setmatch.load(tmp_path)
    assert again.card.arguments["trunk"] == "resnet10t"
    with torch.no_grad():
        ours, theirs = (each.eval()(batch)[0].predictions for each in (model, again))
    assert torch.equal(ours.logits, theirs.logits)


@pytest.mark.parametrize("size", [(64, 96), (67, 99)])
def test_the_levels_are_what_timm_s_own_network_gives(size: tuple[int, int]):
    """Pools that round sizes up are exchanged for what a graph can be made of, to the same."""
    torch.manual_seed(0)
    trunk = TimmBackbone("resnet10t").eval()
    own = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3, 4)).eval()
    own.load_state_dict(trunk.network.state_dict())
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, theirs in zip(trunk(pixels), own(pixels), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    exchanged = sum(isinstance(module, HalvedByMean) for module in trunk.modules())
    kept = sum(isinstance(module, torch.nn.AvgPool2d) for module in trunk.modules())
    assert (exchanged, kept) == (3, 0)


@pytest.mark.parametrize(
    ("trunk", "said"),
    [
        ("resnet10tt", "no such network; did you mean resnet10t"),
        ("vit_tiny_patch16_224", "strides 8, 16 and 32 are needed"),
    ],
)
def test_a_trunk_that_does_not_fit_is_refused_by_name(trunk: str, said: str):
    """A misspelled network and one with other strides, each with what to take."""
    with pytest.raises(ConfigError, match=said):
        build(card(trunk))


def test_weights_of_a_trunk_that_cannot_be_fetched_say_what_to_do():
    """Tests run with the hub switched off: what to fetch, and how to train without it."""
    with pytest.raises(WeightsError, match=r"timm/resnet10t.*--weights none"):
        initialize(card("resnet10t"), "imagenet")


def test_without_timm_the_extra_is_named(monkeypatch):
    """An optional library that is absent is one line that says how to get it."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[timm\]"):
        build(card("resnet10t"))
