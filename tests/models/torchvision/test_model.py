"""The baselines: torchvision's detections and losses behind the interface of Detector."""

import logging

import pytest
import torch
from torchvision.models import Weights, WeightsEnum, detection
from torchvision.ops import FrozenBatchNorm2d

from setmatch.errors import ConfigError, WeightsError
from setmatch.files.reading import sha256_of
from setmatch.inference.engines.eager import EagerEngine
from setmatch.models.detector import Detector
from setmatch.models.initialize import initialize
from setmatch.models.load import load, save
from setmatch.models.registry import build
from setmatch.models.torchvision.checkpoint import WEIGHTS
from setmatch.models.torchvision.config import PyramidShape
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard

PETS = Categories((3, 7), ("cat", "dog"))
CPU = torch.device("cpu")


def model_of(preset: str, **arguments: object) -> Detector:
    """A baseline with random weights."""
    torch.manual_seed(0)
    return build(ModelCard(preset, arguments, PETS)).eval()


def images() -> list[torch.Tensor]:
    """Two images in 0..1 of different sizes, neither a multiple of 32."""
    torch.manual_seed(1)
    return [torch.rand(3, 70, 100), torch.rand(3, 90, 80)]


@pytest.fixture(scope="module")
def ours() -> Detector:
    """Faster R-CNN with live norms, as torchvision builds it without weights."""
    return model_of("fasterrcnn_r50_fpn", batch_norm="live", smallest_anchor_px=32)


@pytest.fixture(scope="module")
def theirs(ours: Detector) -> torch.nn.Module:
    """torchvision's own model with the same weights, in a size that needs no resizing."""
    reference = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=1, max_size=100
    )
    reference.load_state_dict(ours.network.state_dict())
    reference.transform.min_size = (70,)
    return reference.eval()


def test_detections_equal_those_of_torchvision(ours: Detector, theirs: torch.nn.Module):
    """Same weights, same image; our class index is one less."""
    image = images()[0]
    mean = torch.tensor(theirs.transform.image_mean)[:, None, None]
    std = torch.tensor(theirs.transform.image_std)[:, None, None]
    batch = Batch.from_images([(image - mean) / std])
    (detected,) = EagerEngine(ours).detect(batch, [(70, 100)]).detections
    with torch.inference_mode():
        (expected,) = theirs([image])
    assert len(detected) == len(expected["boxes"]) > 10
    assert torch.allclose(detected.xyxy_px, expected["boxes"], atol=1e-3)
    assert torch.allclose(detected.scores, expected["scores"], atol=1e-5)
    assert torch.equal(detected.classes, expected["labels"] - 1)


@pytest.mark.parametrize(
    ("preset", "reference"),
    [
        ("fasterrcnn_r50_fpn_v2", detection.fasterrcnn_resnet50_fpn_v2),
        ("ssdlite_mobilenet_v3", detection.ssdlite320_mobilenet_v3_large),
    ],
)
def test_the_other_baselines_have_the_tensors_of_torchvision(preset: str, reference):
    """Names and shapes are equal, so its weights fit."""
    with torch.device("meta"):
        ours = build(ModelCard(preset, {}, PETS)).network.state_dict()
        theirs = reference(weights=None, weights_backbone=None, num_classes=3).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_boxes_are_in_pixels_of_the_original_image(ours: Detector):
    batch = Batch.from_images(images()[:1])
    (detected,) = EagerEngine(ours).detect(batch, [(70, 100)]).detections
    (twice,) = EagerEngine(ours).detect(batch, [(140, 300)]).detections
    assert torch.allclose(detected.xyxy_px * torch.tensor([3.0, 2, 3, 2]), twice.xyxy_px, atol=1e-3)


@pytest.mark.thorough
def test_a_saved_baseline_loads_unchanged(tmp_path, ours: Detector):
    """Anchors included, although it is built on the meta device."""
    save(ours, tmp_path)
    again = load(tmp_path)
    batch = Batch.from_images(images()[:1])
    mine, theirs = (EagerEngine(m).detect(batch, [(70, 100)]).detections[0] for m in (ours, again))
    assert torch.allclose(mine.xyxy_px, theirs.xyxy_px, atol=1e-3)  # in another memory format
    assert again.card.arguments["batch_norm"] == "live"


def test_classes_with_the_same_name_keep_their_rows(tmp_path, ours: Detector, caplog):
    """detr #552: the background is kept too."""
    save(ours, tmp_path)
    with caplog.at_level(logging.WARNING):
        tuned = load(tmp_path, categories=Categories((1, 2, 3), ("bird", "dog", "fish")))
    assert "kept 1 ('dog'); new 2 ('bird', 'fish')" in caplog.text
    old, new = (m.network.roi_heads.box_predictor for m in (ours, tuned))
    assert torch.equal(new.cls_score.weight[[0, 2]], old.cls_score.weight[[0, 2]])
    assert torch.equal(new.bbox_pred.bias[8:12], old.bbox_pred.bias[8:12])
    assert len(new.cls_score.weight) == 4
    assert len(new.bbox_pred.weight) == 16


def test_every_anchor_keeps_the_rows_of_known_classes(tmp_path):
    """SSDLite has rows for each class and each of six anchors."""
    torch.manual_seed(0)
    old = build(ModelCard("ssdlite_mobilenet_v3", {}, PETS))
    save(old, tmp_path)
    new = load(tmp_path, categories=Categories((1, 2, 3), ("bird", PETS.name(1), "fish")))
    for mine, theirs in zip(
        new.network.head.classification_head.module_list,
        old.network.head.classification_head.module_list,
        strict=True,
    ):
        rows, known = (m[1].weight.view(6, count, -1) for m, count in ((mine, 4), (theirs, 3)))
        assert torch.equal(rows[:, [0, 2]], known[:, [0, 2]])
        assert not torch.equal(rows[:, 1], known[:, 1])


def test_the_error_for_published_weights_offline_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name in WEIGHTS:
        with pytest.raises(WeightsError, match=r"put it at .*fasterrcnn_resnet50_fpn"):
            load(name)
    with pytest.raises(WeightsError, match=r"resnet50-\w+\.pth"):
        initialize(ModelCard("fasterrcnn_r50_fpn", {}, PETS), None)
    with pytest.raises(WeightsError, match="no ImageNet weights"):
        initialize(ModelCard("ssdlite_mobilenet_v3", {}, PETS), "imagenet")


def test_published_weights_detect_as_in_torchvision(tmp_path, monkeypatch):
    """A file made here replaces the published one: frozen norms without epsilon."""
    torch.manual_seed(0)
    reference = detection.FasterRCNN(
        detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet50", weights=None),
        91,
        min_size=64,
        max_size=96,
    ).eval()
    for module in reference.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0
            module.running_var.uniform_(1e-4, 2)
            module.bias.normal_(0, 0.1)
    torch.save(reference.state_dict(), tmp_path / "made.pth")
    made = tmp_path / f"made-{sha256_of(tmp_path / 'made.pth')[:8]}.pth"
    (tmp_path / "made.pth").rename(made)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    class StandIn(WeightsEnum):
        COCO = Weights(made.as_uri(), lambda: None, {})

    monkeypatch.setitem(WEIGHTS, "fasterrcnn_r50_fpn", StandIn.COCO)
    model = load("fasterrcnn_r50_fpn")
    assert model.card.categories.name(0) == "person"
    image = torch.rand(3, 64, 96)
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in (reference.transform.image_mean, reference.transform.image_std)
    )
    (detected,) = (
        EagerEngine(model).detect(Batch.from_images([(image - mean) / std]), [(64, 96)]).detections
    )
    with torch.inference_mode():
        (expected,) = reference([image])
    assert len(detected) == len(expected["boxes"])
    assert torch.allclose(detected.xyxy_px, expected["boxes"], atol=1e-2)
    assert torch.allclose(detected.scores, expected["scores"], atol=1e-4)


def test_the_error_for_an_unknown_argument_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean smallest_anchor_px"):
        model_of("fasterrcnn_r50_fpn", smallest_anchor=16)
    with pytest.raises(ConfigError, match="frozen or live"):
        model_of("fasterrcnn_r50_fpn", batch_norm="thawed")
    with pytest.raises(ConfigError, match="did you mean fasterrcnn_r50_fpn"):
        model_of("fasterrcnn_r50_fpm")


def test_anchors_double_from_level_to_level():
    """The smallest is an argument, for small images."""
    model = model_of("fasterrcnn_r50_fpn", smallest_anchor_px=8)
    assert model.network.rpn.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))
    assert PyramidShape().smallest_anchor_px == 32
