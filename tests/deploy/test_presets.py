"""Every model exports to one graph for all batch and image sizes, of plain operations.

Writing a graph takes half a minute. One preset is always written, all others in the campaign.
"""

import copy
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from known_models import SMALL_DEFORMABLE, SMALL_LWDETR, SMALL_PLACED, SMALL_RFDETR
from setmatch.deploy.formats.onnx import ONNX, OPSET, to_onnx
from setmatch.deploy.formats.openvino import OPENVINO, converted
from setmatch.deploy.verification.verify import images_to_verify
from setmatch.deploy.verification.verify_ends import verify_ends
from setmatch.errors import ConfigError
from setmatch.inference.arrays.engine import open_array_engine
from setmatch.models.detector import Detector
from setmatch.models.plain_operations import HasPlainForm, with_plain_operations
from setmatch.models.registry import FAMILIES, build
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories, ModelCard, Preprocessing

NAMES = Categories((0, 1), ("a", "b"))
QUERY_PRESETS = [name for family in FAMILIES[:-1] for name in family.presets]  # no baselines
SMALL = {"dim": 32, "heads": 4, "ffn_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
FEW = {"decoder_layers": 2}  # of D-FINE and RT-DETR, whose sizes must fit each other
SMALL_BY_FAMILY = {
    "dfine": FEW,
    "rtdetr": FEW,
    "deimv2": FEW,
    "lwdetr": SMALL_LWDETR,
    "rfdetr": SMALL_RFDETR,
    "deformable": SMALL_DEFORMABLE | {"levels": 4},
    "conditional": SMALL_PLACED,
    "dab": SMALL_PLACED,
}
ALWAYS = ("setmatch_n_panoptic",)
# All parts.
PLAIN = (
    *("setmatch_n_panoptic", "detr_r18_tiny_panoptic", "dfine_n", "rtdetr_r18", "rfdetr_n"),
    *("deformable_detr_r50_two_stage", "lwdetr_l", "deimv2_pico"),
)
BACKBONES = {
    "setmatch_timm": {"backbone": "resnet10t"},  # its pools round sizes up
    "deformable_detr_r50_single_scale": {"levels": 1},
    "deformable_detr_r50_single_scale_dc5": {"levels": 1, "backbone": "resnet50"},
    "conditional_detr_r50_dc5": {"backbone": "resnet50"},
    "dab_detr_r50_dc5": {"backbone": "resnet50"},
}
SIZES = [(1, 96, 128), (3, 160, 97), (2, 33, 70), (1, 20, 40), (2, 5, 300)]  # images, height, width
# TensorRT and WebGPU compute some of these wrongly, or not at all.
MOST_AXES = 6  # OpenVINO computes wrongly with more, if one is dynamic
REFUSED_OPERATIONS = {"GridSample", "Loop", "If", "Scan", "SequenceConstruct", "SplitToSequence"}


def small(preset: str, num_queries: int = 12) -> Detector:
    torch.manual_seed(0)
    family = preset.partition("_")[0]
    few = SMALL_BY_FAMILY.get(family, SMALL)
    arguments = {**few, **BACKBONES.get(preset, {}), "num_queries": num_queries}
    model = build(ModelCard(preset, arguments, NAMES, Preprocessing(96, 160))).eval()
    if family in SMALL_BY_FAMILY:  # untrained, all tokens score alike
        with torch.no_grad():
            for weights in model.parameters():
                weights += 0.02 * torch.randn(weights.shape)
    return model


def assert_equal(given: Tensor, expected: Tensor, exact: Tensor, atol: float) -> None:
    """Compare with float32 in PyTorch, as far as that is itself determined by float64.

    An untrained ResNet-101 rounds by more than a trained one, and untrained tokens of D-FINE or
    RT-DETR may score so alike that rounding decides which ones become queries.
    """
    rounding = float((expected - exact).abs().max())
    assert torch.allclose(given, expected, rtol=0, atol=max(atol, 4 * rounding))


@pytest.mark.parametrize("preset", PLAIN)
def test_plain_operations_predict_the_same(preset: str):
    """What is written is what the model computes, at even and odd sizes."""
    model = small(preset)
    plain = with_plain_operations(copy.deepcopy(model))
    assert any(isinstance(part, HasPlainForm) for part in model.modules())
    for images, height, width in SIZES[1:3]:
        batch = Batch.from_images(list(torch.randn(images, 3, height, width)))
        with torch.no_grad():
            ours, theirs = (each(batch)[0].predictions for each in (model, plain))
        assert torch.allclose(ours.logits, theirs.logits, rtol=0, atol=1e-4)
        assert torch.allclose(ours.cxcywh, theirs.cxcywh, rtol=0, atol=1e-5)
        if ours.masks is not None:
            assert torch.allclose(ours.masks, theirs.masks, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(
            name, marks=pytest.mark.thorough if name in ALWAYS else pytest.mark.campaign, id=name
        )
        for name in QUERY_PRESETS
    ],
)
def test_one_graph_serves_every_size_and_batch(preset: str, tmp_path: Path):
    """At sizes that were not traced, raw predictions equal the model's; so do detections."""
    model, path = small(preset), tmp_path / "model.onnx"
    graph = to_onnx(model, end_to_end=True)
    graph.save(path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    written = onnx.load(path)
    onnx.checker.check_model(written, full_check=True)
    assert [each.version for each in written.opset_import] == [OPSET]
    assert {node.op_type for node in written.graph.node} & REFUSED_OPERATIONS == set()
    assert str(Path(__file__).parents[2]) not in str(written)  # no path of this machine
    assert all(len(axes) <= MOST_AXES for axes in shapes_of(written))
    converted(graph).save(tmp_path / "model.xml")
    precise = copy.deepcopy(model).double()
    for kind in (ONNX, OPENVINO):
        engine = kind.open(tmp_path / f"model{kind.suffix}")
        for images, height, width in SIZES:
            batch = Batch.from_images(list(torch.randn(images, 3, height, width)))
            with torch.no_grad():
                expected = model(batch)[0].predictions
                exact = precise(Batch(batch.pixels.double(), batch.valid, False))[0].predictions
            given = engine.predict(batch)
            assert_equal(given.logits, expected.logits[-1:], exact.logits[-1:], atol=1e-4)
            assert_equal(given.cxcywh, expected.cxcywh[-1:], exact.cxcywh[-1:], atol=1e-6)
            assert (given.masks is not None) == model.has_masks == engine.has_masks
            if expected.masks is not None:
                assert_equal(given.masks, expected.masks, exact.masks, atol=1e-3)
        opened = open_array_engine(tmp_path / f"model{kind.suffix}")
        assert (opened is None) == model.has_masks
        session = kind.open_ends(tmp_path / f"model{kind.suffix}")
        verify_ends(model, session, engine.card.preprocessing, images_to_verify(None)[:1])


@pytest.mark.thorough
@pytest.mark.parametrize("preset", ["setmatch_n_panoptic", "rfdetr_seg_n"])
def test_images_with_fewer_tokens_than_queries_have_a_mask_for_each(preset: str, tmp_path: Path):
    """The number of queries depends on the size of the images then."""
    model = small(preset, num_queries=100)
    to_onnx(model).save(tmp_path / "model.onnx")
    engine = ONNX.open(tmp_path / "model.onnx")
    for images, height, width in ((1, 128, 128), (2, 96, 64), (3, 40, 72), (2, 320, 320)):
        batch = Batch.from_images(list(torch.randn(images, 3, height, width)))
        with torch.no_grad():
            expected = model(batch)[0].predictions
        given = engine.predict(batch)
        assert given.masks is not None
        assert expected.masks is not None
        assert given.masks.shape == expected.masks.shape
        assert given.masks.shape[:2] == given.logits.shape[1:3]


def shapes_of(model: onnx.ModelProto) -> list[list[object]]:
    """The axes of all values of a graph."""
    return [list(each.type.tensor_type.shape.dim) for each in model.graph.value_info]


def test_baselines_are_refused():
    """A baseline is no detection transformer, and a clear message says what to export."""
    model = build(ModelCard("ssdlite_mobilenet_v3", {}, NAMES)).eval()
    with pytest.raises(ConfigError, match="ssdlite_mobilenet_v3: a baseline of torchvision"):
        to_onnx(model)
