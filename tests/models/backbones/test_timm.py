"""setmatch on timm backbones: built, saved and refused by name."""

import sys
from pathlib import Path

import pytest
import timm
import torch

import setmatch
from setmatch.errors import ConfigError, ExtraMissingError, WeightsError
from setmatch.models.backbones.timm import HalvedByMean, TimmBackbone
from setmatch.models.initialize import initialize
from setmatch.models.layers.cells import Cells
from setmatch.models.load import save
from setmatch.models.registry import build
from setmatch.structures.batch import Batch, Target
from setmatch.structures.metadata import Categories, ModelCard
from thorough import usually

NAMES = Categories((0, 1), ("a", "b"))
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "num_queries": 6}


def card(backbone: str) -> ModelCard:
    return ModelCard("setmatch_timm", {**SMALL, "backbone": backbone}, NAMES)


def test_a_timm_backbone_trains_and_is_saved(tmp_path: Path):
    """Every parameter has a gradient, the backbone's in a group of its own; the card names it."""
    torch.manual_seed(0)
    model = build(card("resnet10t")).train()
    batch = Batch.from_images([torch.randn(3, 64, 96)] * 2)
    groups = model(batch, [Target(torch.tensor([1]), torch.full((1, 4), 0.4))] * 2)
    sum(s.predictions.logits.sum() + s.predictions.cxcywh.sum() for s in groups).backward()
    assert [name for name, p in model.backbone.named_parameters() if p.grad is None] == []
    groups = model.parameter_groups()
    assert len(groups["backbone"]) == len(list(model.backbone.parameters()))
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    save(model, tmp_path)
    again = setmatch.load(tmp_path)
    assert again.card.arguments["backbone"] == "resnet10t"
    with torch.no_grad():
        ours, theirs = (each.eval()(batch)[0].predictions for each in (model, again))
    assert torch.equal(ours.logits, theirs.logits)


@pytest.mark.parametrize("size", [(64, 96), (67, 99)])
def test_feature_maps_equal_those_of_timm(size: tuple[int, int]):
    """With the pools that round sizes up replaced for export."""
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet10t").eval()
    own = timm.create_model("resnet10t", features_only=True, out_indices=(2, 3, 4)).eval()
    own.load_state_dict(backbone.network.state_dict())
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        for ours, theirs in zip(backbone(pixels), own(pixels), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    replaced = sum(isinstance(module, HalvedByMean) for module in backbone.modules())
    kept = sum(isinstance(module, torch.nn.AvgPool2d) for module in backbone.modules())
    assert (replaced, kept) == (3, 0)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet10t"])
def test_feature_maps_of_a_padded_batch_are_those_of_each_image_alone(backbone: str):
    """Squeeze-and-excitation and odd borders included; zeros on padding."""
    torch.manual_seed(0)
    network = TimmBackbone(backbone).eval()
    images = [torch.randn(3, 67, 99), torch.randn(3, 96, 40)]
    batch = Batch.from_images(images)
    with torch.no_grad():
        together = network(batch.pixels, Cells(batch.valid))
        for index, image in enumerate(images):
            for level, alone in zip(together, network(image[None]), strict=True):
                height, width = alone.shape[-2:]
                assert torch.allclose(level[index, :, :height, :width], alone[0], atol=1e-5)
                assert level[index].count_nonzero() == alone.count_nonzero()


def test_a_network_is_unchanged_by_training_on_a_padded_batch():
    """What hides padding does so in one forward pass only."""
    torch.manual_seed(0)
    network = TimmBackbone("test_resnet").train()
    batch = Batch.from_images([torch.randn(3, 64, 96), torch.randn(3, 96, 64)])
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    before = [level.detach() for level in network(batch.pixels)]
    hidden = network(batch.pixels, Cells(batch.valid))
    assert not torch.allclose(hidden[-1], before[-1], atol=1e-3)
    for after, level in zip(network(batch.pixels), before, strict=True):
        assert torch.equal(after, level)


@pytest.mark.parametrize(
    ("backbone", "hides"),
    [("test_resnet", True), ("mobilenetv3_small_050", True), ("test_convnext", False)],
)
def test_a_network_that_rounds_sizes_down_does_not_hide_padding(backbone: str, hides: bool):
    """Patches of 4 pixels: an image alone has another number of cells than at a larger border."""
    assert TimmBackbone(backbone).hides_padding == hides


@pytest.mark.parametrize("backbone", ["test_convnext", "resnet10t"])
@pytest.mark.parametrize(
    "size", usually([(64, 96), (65, 99), (80, 100), (95, 33), (70, 126)], (64, 96), (95, 33))
)
def test_images_of_any_size_are_taken(backbone: str, size: tuple[int, int]):
    """Maps have a cell for the last pixels too, and a padded batch those of each image alone."""
    torch.manual_seed(0)
    model = build(card(backbone)).eval()
    batch = Batch.from_images([torch.randn(3, *size)])
    sizes = [tuple(-(-side // stride) for side in size) for stride in (8, 16, 32)]
    with torch.no_grad():
        levels = model.backbone(batch.pixels)
        assert [tuple(level.shape[-2:]) for level in levels] == sizes
        assert model(batch)[0].predictions.logits.isfinite().all()
        padded = Batch.from_images([batch.pixels[0], torch.randn(3, 128, 128)])
        together = model.backbone(padded.pixels, Cells(padded.valid))
        for level, (height, width), shared in zip(levels, sizes, together, strict=True):
            assert torch.allclose(shared[0, :, :height, :width], level[0], atol=1e-4)
    model.train()
    target = Target(torch.tensor([1]), torch.full((1, 4), 0.4))
    groups = model(padded, [target, target])
    groups[0].predictions.logits.sum().backward()


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("resnet10tt", "no such network; did you mean resnet10t"),
        ("vit_tiny_patch16_224", "strides 8, 16 and 32 of images of any size are needed"),
        ("swin_tiny_patch4_window7_224", "takes images of one size only"),
    ],
)
def test_the_error_for_an_unfit_backbone_suggests_another(backbone: str, message: str):
    """A misspelled network and one with other strides."""
    with pytest.raises(ConfigError, match=message):
        build(card(backbone))


def test_the_error_for_pretrained_weights_offline_says_what_to_do():
    with pytest.raises(WeightsError, match=r"timm/resnet10t.*--weights none"):
        initialize(card("resnet10t"), "imagenet")


def test_the_error_without_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[timm\]"):
        build(card("resnet10t"))
