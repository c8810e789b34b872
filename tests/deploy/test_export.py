"""An exported file is proven before it has its name, and is a model like any other afterwards."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import setmatch as sm
from setmatch.cli import main
from setmatch.cli.export import size_px_of
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.export import export
from setmatch.deploy.formats.base import ExportFormat
from setmatch.deploy.formats.onnx import ONNX, OnnxGraph, to_onnx
from setmatch.deploy.formats.openvino import OPENVINO, OpenVinoGraph
from setmatch.deploy.verification.verify import images_to_verify, verify
from setmatch.errors import (
    ConfigError,
    DataError,
    ExtraMissingError,
    SetmatchError,
    VerificationError,
    WeightsError,
)
from setmatch.inference.engines.exported_card import KEY
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.models.detector import Detector
from setmatch.models.weights.card import BUNDLED
from setmatch.structures.batch import Batch
from small_disk import files_of_at_most
from thorough import usually

SIZE_PX = (96, 128)  # of the graph `fixed`


@pytest.fixture
def fixed_onnx(fixed: OnnxGraph, tmp_path: Path) -> Path:
    fixed.save(tmp_path / "fixed.onnx")
    return tmp_path / "fixed.onnx"


def test_predict_and_evaluate_take_the_file(scenes_n: Detector, scenes_onnx: Path, tmp_path: Path):
    """The same detections and AP as the model, though the file is end-to-end."""
    engine = sm.load(scenes_onnx)
    images = [scene((1, number), 200).pixels for number in range(3)]
    for ours, theirs in zip(
        sm.predict(scenes_n, images, threshold=0.2), sm.predict(engine, images, threshold=0.2)
    ):
        assert len(ours) == len(theirs) > 0
        assert torch.allclose(ours.xyxy_px, theirs.xyxy_px, rtol=0, atol=1e-2)
        assert ours.classes.tolist() == theirs.classes.tolist()
    from setmatch.data.synthetic.scenes import write_scenes

    write_scenes(tmp_path / "data", 1, 6, 128, 0, 0)
    expected = sm.evaluate(scenes_n, tmp_path / "data", workers=0)
    report = sm.evaluate(engine, tmp_path / "data", workers=0, report=tmp_path / "page.html")
    assert pytest.approx(expected.AP, abs=1e-6) == report.AP
    assert report.AP > 0.1


def test_the_card_has_all_that_predictions_need(scenes_n: Detector, scenes_onnx: Path):
    """Classes, image size, normalization, license, weights' SHA-256 and versions are inside."""
    (entry,) = onnx.load(scenes_onnx).metadata_props
    assert entry.key == KEY
    tree = json.loads(entry.value)
    stored = json.loads((BUNDLED / "scenes_n" / "model.json").read_text("utf-8"))
    model = tree["model"]
    for name in ("categories", "preprocessing", "license"):
        assert model[name] == stored[name]
    assert len(model["sha256"]) == 64
    assert {"setmatch", "torch", "onnx", "opset"} <= set(tree["made_with"])
    engine = OnnxRuntimeEngine(scenes_onnx)
    assert engine.card == scenes_n.card
    assert engine.num_queries == scenes_n.num_queries
    assert engine.default_threshold == scenes_n.default_threshold
    assert engine.class_loss == scenes_n.class_loss
    assert (engine.has_masks, engine.fixed_queries) == (False, False)


def test_the_end_to_end_file_needs_an_image_and_a_threshold_alone(
    scenes_n: Detector, scenes_onnx: Path
):
    """Boxes in pixels of the image, above the threshold, best first."""
    import onnxruntime

    session = onnxruntime.InferenceSession(scenes_onnx)
    image = scene((1, 0), 300).pixels[:, :180]
    threshold = np.array([0.3], np.float32)
    boxes, classes, scores = session.run(None, {"image": image, "threshold": threshold})
    expected = sm.predict(scenes_n, image, threshold=0.3)
    assert len(expected) > 0
    assert np.allclose(scores, expected.scores, atol=0.01)
    assert np.allclose(boxes, expected.xyxy_px, atol=0.2)  # of resized pixels, some round otherwise
    assert classes.tolist() == expected.classes.tolist()


def test_every_image_is_resized_to_a_fixed_size(scenes_n: Detector, fixed_onnx: Path):
    """The card has the size, so predict resizes to it, and the file verifies."""
    engine = OnnxRuntimeEngine(fixed_onnx)
    assert engine.card.preprocessing.size_px == SIZE_PX
    found = sm.predict(engine, scene((1, 0), 200).pixels, threshold=0.1)
    assert len(found) > 0
    checks = verify(
        scenes_n, engine.predict, engine.card.preprocessing, images_to_verify(None), str
    )
    assert [(each.size_px, each.batch) for each in checks] == [(SIZE_PX, n) for n in (1, 2, 5)]
    assert all(each.difference.compared >= 10 * each.batch for each in checks)
    with pytest.raises(ConfigError, match=r"fixed.onnx: does not run on pixels \(1, 3, 64, 64\)"):
        engine.predict(Batch.from_images([torch.zeros(3, 64, 64)]))
    padded = Batch.from_images([torch.zeros(3, 64, 64), torch.zeros(3, 96, 32)])
    with pytest.raises(ConfigError, match="without padding"):
        engine.predict(padded)


@pytest.mark.thorough
def test_a_graph_that_is_traced_at_one_size_is_that_of_any_size(
    scenes_n: Detector, fixed: OnnxGraph, tmp_path: Path
):
    """The other tests take the latter, with the size written into it."""
    engines = []
    for name, graph in (("any", fixed), ("one", to_onnx(scenes_n, SIZE_PX))):
        graph.save(tmp_path / f"{name}.onnx")
        engines.append(OnnxRuntimeEngine(tmp_path / f"{name}.onnx"))
    assert engines[0].card == engines[1].card
    ours, theirs = (
        each.predict(Batch.from_images([torch.rand(3, *SIZE_PX, generator=seed)] * 2))
        for each in engines
        for seed in [torch.Generator().manual_seed(0)]
    )
    assert torch.allclose(ours.logits, theirs.logits, rtol=0, atol=1e-4)
    assert torch.allclose(ours.cxcywh, theirs.cxcywh, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("decoder.box_steps.1.last.bias", "decoder.box_steps.1.last"),
        ("encoder.layers.0.ffn.0.bias", "encoder.layers.0.ffn.0"),
    ],
)
def test_a_wrong_file_is_refused_and_the_part_that_differs_first_is_named(
    scenes_n: Detector, fixed: OnnxGraph, tmp_path: Path, with_noise, part: str, named: str
):
    """The message has the image, the size, the batch and the layer."""
    wrong = with_noise(fixed, part)
    wrong.save(tmp_path / "wrong.onnx")
    engine = OnnxRuntimeEngine(tmp_path / "wrong.onnx")
    with pytest.raises(VerificationError, match=f"differs in {named} ") as raised:
        verify(
            scenes_n,
            engine.predict,
            engine.card.preprocessing,
            images_to_verify(None),
            wrong.first_difference,
        )
    assert "generated scene 0 at 96x128 px, batch of 1: " in str(raised.value)


def test_a_file_that_fails_is_not_left_under_its_name(
    scenes_n: Detector, fixed: OnnxGraph, tmp_path: Path, monkeypatch, with_noise
):
    """Exit code 2, one line, and what was there before is unchanged."""
    import setmatch.deploy.export as module

    wrong = with_noise(fixed, "decoder.box_steps.1.last.bias")
    monkeypatch.setattr(module, "FORMATS", [replace(ONNX, build=lambda *others: wrong)])
    out = tmp_path / "detector.onnx"
    with pytest.raises(VerificationError):
        export(scenes_n, out, size_px=SIZE_PX)
    assert list(tmp_path.iterdir()) == []
    out.write_bytes(b"earlier")
    assert main(["export", "scenes_n", "--out", str(out), "--size", "96x128"]) == 2
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"earlier"]


@pytest.mark.parametrize("most", usually([0, 100_000, 1_000_000], 100_000))  # bytes of a file
@pytest.mark.parametrize("kind", [ONNX, OPENVINO], ids=lambda kind: kind.name)
def test_a_full_disk_leaves_no_file(
    scenes_n: Detector,
    fixed: OnnxGraph,
    fixed_openvino: OpenVinoGraph,
    tmp_path: Path,
    monkeypatch,
    kind: ExportFormat,
    most: int,
):
    """It is said of the file that was asked for, and what was there before is unchanged."""
    import setmatch.deploy.export as module

    graph = fixed_openvino if kind is OPENVINO else fixed
    monkeypatch.setattr(module, "FORMATS", [replace(kind, build=lambda *others: graph)])
    out = tmp_path / f"detector{kind.suffix}"
    for earlier in ([], [out.with_suffix(each) for each in (kind.suffix, *kind.others)]):
        for each in earlier:
            each.write_bytes(b"earlier")
        with pytest.raises(OSError, match=re.escape(str(out))), files_of_at_most(most):
            export(scenes_n, out, size_px=SIZE_PX)
        assert {each: each.read_bytes() for each in tmp_path.iterdir()} == dict.fromkeys(
            earlier, b"earlier"
        )


def test_a_model_of_another_precision_is_exported_in_float32(
    scenes_n: Detector, fixed: OnnxGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is verified as it is written, whatever its precision, device and mode; it is unchanged."""
    import setmatch.deploy.export as module

    monkeypatch.setattr(module, "FORMATS", [replace(ONNX, build=lambda *others: fixed)])
    model = copy.deepcopy(scenes_n).double().train()
    verification = export(model, tmp_path / "detector.onnx", size_px=SIZE_PX)
    assert len(verification.checks) == 3
    assert model.training
    assert {each.dtype for each in model.parameters()} == {torch.float64}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "detector.pt"}, ConfigError, "name a file that ends in .onnx or .xml"),
        ({"to": "openvino"}, ConfigError, "detector.onnx: name a file that ends in .xml"),
        ({"to": "coreml"}, ConfigError, "format coreml: choose one of onnx, openvino"),
        ({"size_px": (16, 640)}, ConfigError, "size 16x640: sides can be 32 to"),
        ({"size_px": (640,)}, ConfigError, "give .height, width. in whole pixels"),
        ({"size_px": (64.5, 64)}, ConfigError, "give .height, width. in whole pixels"),
        ({"verify_on": "nothing_here"}, DataError, "nothing_here"),
        ({"path": "a_file/detector.onnx"}, ConfigError, "is not a folder"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(
    scenes_n: Detector, tmp_path: Path, monkeypatch, arguments, error, message
):
    """Before the model is traced, which takes long; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    with pytest.raises(error, match=message):
        export(scenes_n, **{"path": "detector.onnx", **arguments})
    assert [each.name for each in tmp_path.iterdir()] == ["a_file"]


def test_one_number_is_the_side_of_a_square():
    assert [size_px_of(text) for text in ("640", "480x640")] == [(640, 640), (480, 640)]


def test_the_command_line_refuses_an_unknown_size(capsys: pytest.CaptureFixture[str]):
    assert main(["export", "scenes_n", "--out", "a.onnx", "--size", "big"]) == 2
    assert "--size big: give height and width" in capsys.readouterr().err


def without_card(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def with_card(text: str):
    def change(model: onnx.ModelProto) -> None:
        onnx.helper.set_model_props(model, {KEY: text})

    return change


def newer_operations(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def newer_format(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def nothing(model: onnx.ModelProto) -> None:
    model.Clear()


def cut_weights(model: onnx.ModelProto) -> None:
    """Kernels in another file, which has not all of them."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            size = len(tensor.raw_data)
            onnx.external_data_helper.set_external_data(tensor, "weights.bin", 0, size)
            tensor.ClearField("raw_data")


def renamed_output(model: onnx.ModelProto) -> None:
    (box,) = (each for each in model.graph.output if each.name == "cxcywh")
    model.graph.node.append(onnx.helper.make_node("Identity", ["cxcywh"], ["boxes"]))
    box.name = "boxes"


def unknown_loss(model: onnx.ModelProto) -> None:
    text = model.metadata_props[0].value.replace('"varifocal"', '"unheard_of"')
    model.metadata_props[0].value = text


def external_weights(model: onnx.ModelProto) -> None:
    onnx.external_data_helper.convert_model_to_external_data(model, size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")


def missing_weights(model: onnx.ModelProto) -> None:
    """Kernels in another file, which is not there."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            onnx.external_data_helper.set_external_data(tensor, "gone.bin")
            tensor.ClearField("raw_data")


def loss_without_name(model: onnx.ModelProto) -> None:
    text = model.metadata_props[0].value.replace('"varifocal"', '["varifocal"]')
    model.metadata_props[0].value = text


@pytest.mark.parametrize(
    "written", [b"LayerNormalization", b"pixels", b"cxcywh", b"Reshape", b"setmatch-export"]
)
@pytest.mark.parametrize("byte", [0xA6, 0xF2, 0xFF])
def test_a_name_that_is_no_text_is_damage(
    fixed: OnnxGraph, tmp_path: Path, written: bytes, byte: int, capfd: pytest.CaptureFixture[str]
):
    """ONNX Runtime gives names as they are written, also in its messages."""
    path = tmp_path / "model.onnx"
    content = fixed.model.SerializeToString()
    assert written in content
    path.write_bytes(content.replace(written, bytes([byte]) + written[1:]))
    capfd.readouterr()
    with pytest.raises(WeightsError, match="damaged: a name in the graph is not UTF-8"):
        sm.load(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_card, "not exported by setmatch: .* no entry 'setmatch'"),
        (with_card("{"), "damaged model card"),
        (with_card("[]"), "damaged model card"),
        (with_card('{"format": "setmatch-export-9"}'), "use a newer setmatch"),
        (with_card('{"format": "setmatch-export-1"}'), r"damaged model card .*\(model: Field"),
        (newer_operations, "operations are of another version"),
        (newer_format, "format is of another version: .*99.*; update onnxruntime"),
        (nothing, "damaged, or not an ONNX file"),
        (cut_weights, "weights are in another file, which is damaged: .*; copy both"),
        (renamed_output, "no output cxcywh"),
        (loss_without_name, r"damaged model card .*\(class_loss: .*it has no name"),
        (unknown_loss, "classification loss .* is not known"),
        (external_weights, "shapes are in another file"),
        (missing_weights, "weights are in another file, which is missing"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_one_line(
    fixed: OnnxGraph, tmp_path: Path, change, message: str, capsys: pytest.CaptureFixture[str]
):
    """What is missing is said, whoever opens the file."""
    model, path = onnx.ModelProto(), tmp_path / "model.onnx"
    model.CopyFrom(fixed.model)
    change(model)
    path.write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(b"1234")
    with pytest.raises(WeightsError, match=message):
        sm.load(path)
    capsys.readouterr()
    assert main(["predict", str(path), str(path), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert not re.search(r"\.(cc|h):\d", lines[0])  # a place in the runtime's source
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(fixed: OnnxGraph, tmp_path: Path, share: float):
    content = fixed.model.SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"model\.onnx: "):
        sm.load(tmp_path / "model.onnx")


def constant(**outputs: np.ndarray):
    """Let a graph return arrays, whatever its input is."""

    def change(model: onnx.ModelProto) -> None:
        for name, value in outputs.items():
            (output,) = (each for each in model.graph.output if each.name == name)
            tensor = onnx.numpy_helper.from_array(value, f"constant {name}")
            output.CopyFrom(
                onnx.helper.make_tensor_value_info(name, tensor.data_type, list(value.shape))
            )
            (node,) = (each for each in model.graph.node if name in each.output)
            node.output[list(node.output).index(name)] = f"other {name}"
            model.graph.initializer.append(tensor)
            model.graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name]))

    return change


LOGITS, BOXES = np.zeros((1, 30, 6), np.float32), np.full((1, 30, 4), 0.5, np.float32)
OTHER_OUTPUTS = {
    "more classes": {"logits": np.zeros((1, 30, 9), np.float32)},
    "fewer classes": {"logits": LOGITS[..., :3]},
    "no classes": {"logits": LOGITS[..., :0]},
    "whole numbers": {"logits": LOGITS.astype(np.int64)},
    "yes or no": {"cxcywh": BOXES > 0},
    "of one image": {"logits": LOGITS[0]},
    "a number": {"logits": np.zeros((), np.float32)},
    "of two images": {"logits": LOGITS.repeat(2, 0), "cxcywh": BOXES.repeat(2, 0)},
    "of no image": {"logits": LOGITS[:0], "cxcywh": BOXES[:0]},
    "other queries": {"cxcywh": BOXES[:, :7]},
    "five numbers a box": {"cxcywh": np.zeros((1, 30, 5), np.float32)},
    "one box": {"cxcywh": BOXES[0, 0]},
    "negative sides": {"cxcywh": -BOXES},
}


@pytest.mark.parametrize("outputs", OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_a_graph_that_returns_something_else_is_refused_in_one_line(
    fixed: OnnxGraph, tmp_path: Path, outputs: dict[str, np.ndarray], capsys
):
    """By the command, which needs no torch, and by the engine."""
    model, path, image = onnx.ModelProto(), tmp_path / "model.onnx", tmp_path / "image.png"
    model.CopyFrom(fixed.model)
    constant(**outputs)(model)
    path.write_bytes(model.SerializeToString())
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image)
    with pytest.raises(SetmatchError, match=r"its output|ends before it begins"):
        sm.predict(sm.load(path), image)
    capsys.readouterr()
    out = tmp_path / "out"
    assert main(["predict", str(path), str(image), "--out", str(out)]) == 2
    assert f"{path}: " in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists() or not list(out.rglob("*.*"))


def test_weights_that_look_nowhere_are_refused_as_not_finite(fixed: OnnxGraph, tmp_path: Path):
    """Points that are not numbers have no place in the image to be read at."""
    model = onnx.ModelProto()
    model.CopyFrom(fixed.model)
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.ndim:
            wrong = np.full_like(value, np.nan)
            tensor.CopyFrom(onnx.numpy_helper.from_array(wrong, tensor.name))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match="not finite: its weights"):
        sm.predict(sm.load(tmp_path / "model.onnx"), scene((1, 0), 100).pixels)


def test_predictions_that_are_not_finite_are_refused(fixed: OnnxGraph, tmp_path: Path, with_noise):
    wrong = with_noise(fixed, "decoder.box_steps.1.last.bias")
    (tensor,) = (
        t for t in wrong.model.graph.initializer if t.name.endswith("box_steps.1.last.bias")
    )
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(4, np.nan, np.float32), tensor.name))
    wrong.save(tmp_path / "model.onnx")
    with pytest.raises(WeightsError, match="not finite"):
        sm.predict(sm.load(tmp_path / "model.onnx"), scene((1, 0), 100).pixels)


def test_without_the_libraries_the_extra_is_named(
    scenes_n: Detector, fixed_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import sys

    for name in ("onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[onnx\]"):
        sm.load(fixed_onnx)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[onnx\]"):
        export(scenes_n, tmp_path / "new.onnx")


def test_an_exported_file_cannot_be_changed_or_explained(fixed_onnx: Path, tmp_path: Path):
    """What needs weights says so."""
    with pytest.raises(ConfigError, match="num_queries cannot be changed in an exported file"):
        sm.load(fixed_onnx, num_queries=3)
    with pytest.raises(WeightsError, match="holds no weights to train, convert or explain"):
        sm.models.convert_weights(fixed_onnx, tmp_path / "new", to="setmatch")
    engine: Any = sm.load(fixed_onnx)  # which type checks of the tests would refuse
    new = tmp_path / "new.onnx"
    for use in (sm.export, sm.save, lambda model, out: sm.train(tmp_path, model, out=out)):
        with pytest.raises(ConfigError, match=r"expected a Detector to .*, got OnnxRuntimeEngine"):
            use(engine, new)
    assert not list(tmp_path.glob("new*"))
    with pytest.raises(ConfigError, match="an exported model has no attention to show"):
        sm.explain(sm.load(fixed_onnx), Image.new("RGB", (64, 64)))


def test_the_command_line_predicts_with_the_file(scenes_onnx: Path, tmp_path: Path):
    Image.fromarray(scene((1, 0), 200).pixels).save(tmp_path / "a.png")
    arguments = [str(scenes_onnx), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(["predict", *arguments, "--threshold", "0.2"]) == 0
    assert json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert (
        main(["compare", str(scenes_onnx), "scenes_n", "--rounds", "1", "--batch-size", "1"]) == 0
    )
