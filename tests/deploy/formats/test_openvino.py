"""An OpenVINO model is proven like an ONNX file, and is a model like any other afterwards."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import setmatch as sm
from setmatch.cli import main
from setmatch.data.synthetic.scenes import scene, write_scenes
from setmatch.deploy.export import export
from setmatch.deploy.formats.onnx import OnnxGraph
from setmatch.deploy.formats.openvino import OPENVINO, OpenVinoGraph, converted
from setmatch.deploy.verification.verify import images_to_verify, verify
from setmatch.errors import ConfigError, ExtraMissingError, VerificationError, WeightsError
from setmatch.inference.engines.openvino import OpenVinoEngine
from setmatch.models.detector import Detector
from setmatch.structures.batch import Batch


@pytest.fixture(scope="session")
def fixed_folder(fixed_openvino: OpenVinoGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model for images of one size."""
    folder = tmp_path_factory.mktemp("openvino")
    fixed_openvino.save(folder / "model.xml")
    return folder


@pytest.fixture
def fixed_xml(fixed_folder: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may damage."""
    return Path(shutil.copytree(fixed_folder, tmp_path / "fixed"), "model.xml")


def exporting(monkeypatch: pytest.MonkeyPatch, graph: OpenVinoGraph) -> None:
    """Let `export` write a graph that is there, for making one takes half a minute."""
    import setmatch.deploy.export as module

    kind = dataclasses.replace(OPENVINO, build=lambda *others: graph)
    monkeypatch.setattr(module, "FORMATS", [kind])


def test_predict_and_evaluate_take_the_file(scenes_n: Detector, scenes_xml: Path, tmp_path: Path):
    """The same detections and AP as the model, though the file is end-to-end.

    The first shape has a graph of its own, and the second has not.
    """
    engine = sm.load(scenes_xml)
    images = [scene((1, number), 200 - 30 * number).pixels for number in range(2)]
    for ours, theirs in zip(
        sm.predict(scenes_n, images, threshold=0.2), sm.predict(engine, images, threshold=0.2)
    ):
        assert len(ours) == len(theirs) > 0
        assert torch.allclose(ours.xyxy_px, theirs.xyxy_px, rtol=0, atol=1e-3)
        assert ours.classes.tolist() == theirs.classes.tolist()
    write_scenes(tmp_path / "data", 1, 4, 128, 0, 0)
    expected = sm.evaluate(scenes_n, tmp_path / "data", workers=0)
    report = sm.evaluate(engine, tmp_path / "data", workers=0, report=tmp_path / "page.html")
    assert pytest.approx(expected.AP, abs=1e-6) == report.AP > 0.1


def test_the_end_to_end_model_needs_an_image_and_a_threshold_alone(
    scenes_n: Detector, scenes_xml: Path
):
    """Boxes in pixels of the image, above the threshold, best first, in two lines of OpenVINO."""
    import openvino

    model = openvino.Core().compile_model(scenes_xml, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = scene((1, 0), 300).pixels[:, :180]
    found = model({"image": image, "threshold": np.array([0.3], np.float32)})
    expected = sm.predict(scenes_n, image, threshold=0.3)
    assert len(expected) > 0
    assert np.allclose(found["scores"], expected.scores, atol=0.01)
    assert np.allclose(found["boxes"], expected.xyxy_px, atol=0.2)
    assert found["classes"].tolist() == expected.classes.tolist()


def test_both_files_are_written_verified_and_described(
    scenes_n: Detector,
    fixed_openvino: OpenVinoGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The command line names both; the card inside is that of the model."""
    exporting(monkeypatch, fixed_openvino)
    out = tmp_path / "detector.xml"
    assert main(["export", "scenes_n", "--to", "openvino", "--out", str(out)]) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["detector.bin", "detector.xml"]
    printed = " ".join(capsys.readouterr().out.split())
    assert f"written to {out} and {out.with_suffix('.bin')} (" in printed
    engine = OpenVinoEngine(out)
    assert engine.card.categories == scenes_n.card.categories
    assert engine.card.preprocessing.size_px == (96, 128)
    assert engine.class_loss == scenes_n.class_loss
    assert engine.num_queries == scenes_n.num_queries
    with pytest.raises(
        ConfigError, match=r"does not run on pixels \(1, 3, 64, 64\): pixels has the shape"
    ):
        engine.predict(Batch.from_images([torch.zeros(3, 64, 64)]))


@pytest.mark.thorough
def test_a_wrong_model_is_refused_and_nothing_is_changed(
    scenes_n: Detector,
    fixed: OnnxGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_noise: Callable[[OnnxGraph, str], OnnxGraph],
):
    """The part that differs first is named; both files of an earlier export stay."""
    part = "encoder.layers.0.ffn.0"
    exporting(monkeypatch, converted(with_noise(fixed, f"{part}.bias")))
    with pytest.raises(VerificationError, match=f"differs in {part} "):
        export(scenes_n, tmp_path / "detector.xml")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(OpenVinoGraph, "first_difference", lambda *_: "")  # which is dear to find
    for suffix in (".xml", ".bin"):
        (tmp_path / "detector").with_suffix(suffix).write_text(suffix)
    assert main(["export", "scenes_n", "--out", str(tmp_path / "detector.xml")]) == 2
    assert sorted(each.read_text() for each in tmp_path.iterdir()) == [".bin", ".xml"]


def test_a_file_of_another_program_is_not_replaced(
    scenes_n: Detector,
    fixed_openvino: OpenVinoGraph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """The .bin without its .xml may be anything."""
    exporting(monkeypatch, fixed_openvino)
    (tmp_path / "disk.bin").write_text("mine")
    with pytest.raises(ConfigError, match=r"disk.bin: would be replaced, but is not of disk.xml"):
        export(scenes_n, tmp_path / "disk.xml")
    assert (tmp_path / "disk.bin").read_text() == "mine"


def change_text(old: str, new: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    return change


def cut_weights(share: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        weights = path.with_suffix(".bin")
        weights.write_bytes(weights.read_bytes()[: int(share * weights.stat().st_size)])

    return change


def cut_graph(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.with_suffix(".bin").read_bytes())
    content[len(content) // 2] ^= 1
    path.with_suffix(".bin").write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_text("<setmatch ", "<others "), r"not exported by setmatch: its rt_info has no"),
        (change_text("setmatch-export-1", "setmatch-export-9"), "use a newer setmatch"),
        (change_text("&quot;varifocal&quot;", "&quot;unheard&quot;"), "loss .* is not known"),
        (change_text('names="cxcywh"', 'names="boxes"'), "no output cxcywh"),
        (lambda path: path.write_text("<annotation><size/></annotation>"), "not a model of Open"),
        (lambda path: path.write_text('<net name="a" version="11"></net>'), "model.xml"),
        (change_text('version="11"', 'version="99"'), "of another version; update openvino"),
        (lambda path: path.write_bytes(b""), "not a model of OpenVINO"),
        (lambda path: path.with_suffix(".bin").unlink(), r"model.bin: missing: .* copy both"),
        (lambda path: replace_bytes(path, b"<dim>-1", b"<dim>\xe61"), "model.xml: .*not UTF-8"),
        (lambda path: replace_bytes(path, b'"cxcywh"', b'"\xa6xcywh"'), "model.xml: .*not UTF-8"),
        (flip_a_bit, "model.bin: damaged, or of another export"),
        *((cut_weights(share), "model.bin") for share in (0.0, 0.3, 0.999)),
        *((cut_graph(share), "model.xml") for share in (0.001, 0.3, 0.7, 0.99)),
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_one_line(
    fixed_xml: Path, tmp_path: Path, change, message: str, capfd: pytest.CaptureFixture[str]
):
    """Damaged, foreign, without its .bin, or with that of another export."""
    change(fixed_xml)
    with pytest.raises(WeightsError, match=message):
        sm.load(fixed_xml)
    capfd.readouterr()
    assert main(["predict", str(fixed_xml), str(fixed_xml), "--out", str(tmp_path / "out")]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_the_library_the_extra_is_named(
    scenes_n: Detector, fixed_xml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[openvino\]"):
        sm.load(fixed_xml)
    with pytest.raises(ExtraMissingError, match=r"setmatch\[openvino\]"):
        export(scenes_n, tmp_path / "new.xml")


@pytest.mark.thorough
def test_the_command_line_predicts_and_compares(fixed_xml: Path, tmp_path: Path):
    Image.fromarray(scene((1, 0), 200).pixels).save(tmp_path / "a.png")
    arguments = [str(fixed_xml), str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(["predict", *arguments, "--threshold", "0.2"]) == 0
    assert json.loads((tmp_path / "out" / "detections.json").read_text("utf-8"))
    assert main(["predict", *arguments, "--engine", "onnxruntime"]) == 2
    assert main(["compare", str(fixed_xml), "scenes_n", "--rounds", "1", "--batch-size", "1"]) == 0


@pytest.mark.thorough
def test_threads_share_an_engine(fixed_xml: Path):
    """Every thread gets the predictions for its own image."""
    from concurrent.futures import ThreadPoolExecutor

    engine = OpenVinoEngine(fixed_xml)
    batches = [Batch.from_images([torch.rand(3, 96, 128) + number]) for number in range(4)]
    expected = [engine.predict(each).logits for each in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: engine.predict(each).logits, batches * 5))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected * 5))


def handle_a_signal() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
    signal.raise_signal(signal.SIGUSR1)


def test_signals_are_handled_after_another_thread_closed_an_engine(fixed_xml: Path):
    """OpenVINO frees the stack of signal handlers, unless its plugin stays loaded."""
    engines = [OpenVinoEngine(fixed_xml)]
    thread = threading.Thread(target=engines.clear)
    thread.start()
    thread.join()
    child = multiprocessing.get_context("fork").Process(target=handle_a_signal)
    child.start()
    child.join()
    assert child.exitcode == 7


@pytest.mark.thorough
def test_a_model_of_any_size_is_the_model(scenes_n: Detector, scenes_xml: Path):
    """At an odd size, every detection of each batch is found again, after a tiny image, too."""
    engine = OpenVinoEngine(scenes_xml)
    checks = verify(
        scenes_n,
        engine.predict,
        engine.card.preprocessing,
        images_to_verify(None),
        str,
        sizes_px=[(32, 32), (97, 131)],
    )
    assert all(each.difference.compared >= 10 * each.batch for each in checks)
