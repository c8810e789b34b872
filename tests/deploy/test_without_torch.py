"""`setmatch predict` with an exported file detects as the model, without importing torch."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import setmatch as sm
from setmatch.cli import main
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy import load as deploy
from setmatch.deploy.formats.onnx import ONNX, OnnxGraph
from setmatch.files.manifest import write_manifest
from setmatch.inference.arrays.engine import open_array_engine
from setmatch.inference.arrays.known_files import known_file, note_file
from setmatch.models.detector import Detector

# PyTorch resizes to slightly different pixels on processors without AVX2.
TOLERANCE = 1e-3 if torch.backends.cpu.get_cpu_capability().startswith("AVX") else 0.1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images of several shapes and modes; one cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (height, width) in enumerate([(200, 200), (120, 200), (200, 90), (60, 61)]):
        Image.fromarray(scene((1, number), 200).pixels[:height, :width]).save(
            folder / f"{number}.png"
        )
    Image.fromarray(scene((1, 4), 160).pixels).convert("L").save(folder / "gray.jpg")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def predicted(model: Path | str, photos: Path, *options: str) -> list[dict[str, Any]]:
    """The rows that the command line writes."""
    out = photos.parent / Path(model).name
    assert main(["predict", str(model), str(photos), "--out", str(out), *options]) == 0
    drawn = {each.name for each in (out / "drawn").iterdir()}
    assert drawn == {"0.png", "1.png", "2.png", "3.png", "gray.jpg"}
    rows: list[dict[str, Any]] = json.loads((out / "detections.json").read_text("utf-8"))
    assert len((out / "detections.csv").read_text("utf-8").splitlines()) == len(rows) + 1
    return rows


@pytest.mark.parametrize("options", [(), ("--threshold", "0.2")])
def test_the_detections_are_those_of_the_model(scenes_onnx: Path, photos: Path, options, capsys):
    """Images are resized to the same pixels, so that nothing but the engine differs."""
    given, expected = (predicted(each, photos, *options) for each in (scenes_onnx, "scenes_n"))
    assert "1 of 6 images cannot be read: broken.png" in capsys.readouterr().err
    assert_alike(given, expected)


def assert_alike(given: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare the rows of two engines."""
    assert len(given) == len(expected) > 5
    for ours, theirs in zip(given, expected, strict=True):
        assert np.allclose(ours.pop("bbox"), theirs.pop("bbox"), rtol=0, atol=TOLERANCE)
        assert ours.pop("score") == pytest.approx(theirs.pop("score"), abs=TOLERANCE)
        assert ours == theirs


@pytest.mark.parametrize("model", ["scenes_onnx", "scenes_xml"])
def test_nothing_imports_torch(model: str, photos: Path, request: pytest.FixtureRequest):
    """In a fresh process; it would take seconds, and half a gigabyte."""
    file = str(request.getfixturevalue(model))
    assert imported(["predict", file, str(photos), "--out", str(photos.parent / "out")]) == set()


def imported(arguments: list[str]) -> set[str]:
    """Run the command line in a process of its own; return what it imports of heavy libraries."""
    code = (
        "import sys\n"
        "from setmatch.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print('has', *{'torch', 'torchvision', 'scipy', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split()) - {"has"}


def test_an_engine_of_weights_needs_no_torch_once_its_file_is_there(
    scenes_n: Detector, scenes_onnx: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
):
    """Weights are known by their bytes and card; its detections are those of the first time."""
    monkeypatch.setenv("SETMATCH_CACHE", str(photos.parent / "cache"))
    graph = OnnxGraph(onnx.load(scenes_onnx), None)
    kind = dataclasses.replace(ONNX, build=lambda *others: graph)
    monkeypatch.setitem(deploy.KINDS, "onnxruntime", kind)
    monkeypatch.setattr("setmatch.deploy.verification.verify.BATCHES", (1,))
    weights, out = photos.parent / "weights", photos.parent / "out"
    sm.save(scenes_n, weights)
    arguments = ["predict", str(weights), str(photos), "--out", str(out)]
    arguments += ["--engine", "onnxruntime"]
    assert main(arguments) == 0
    expected = json.loads((out / "detections.json").read_text("utf-8"))
    assert imported(arguments) == set()
    assert_alike(json.loads((out / "detections.json").read_text("utf-8")), expected)


@pytest.mark.parametrize("change", ["weights", "card", "file", "note", "versions", "engine"])
def test_a_file_is_known_only_as_it_was(
    scenes_n: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
):
    """Whatever else is on the disk, torch loads the weights and says what is wrong."""
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "weights"
    sm.save(scenes_n, weights)
    folder = tmp_path / "cache" / "engines" / ("0" * 16 + "-" + "1" * 16) / ("onnx-" + "2" * 16)
    folder.mkdir(parents=True)
    file = folder / "model.onnx"
    file.write_text("as verified")
    write_manifest(folder, {})
    assert known_file(weights, "onnxruntime") is None
    note_file(weights, "onnxruntime", file, ["numpy"])
    for source in (weights, weights / "model.safetensors"):
        assert known_file(source, "onnxruntime") == file
    (note,) = (tmp_path / "cache" / "engines" / "weights").iterdir()
    changed = {
        "weights": weights / "model.safetensors", "card": weights / "model.json",
        "file": file, "note": note, "versions": note,
    }  # fmt: skip
    if change == "versions":
        note.write_text(note.read_text().replace('"numpy": "', '"numpy": "1'))
    elif change in changed:
        changed[change].write_bytes(changed[change].read_bytes()[:-1])
    assert known_file(weights, "openvino" if change == "engine" else "onnxruntime") is None


def test_predictions_that_are_not_finite_are_refused(scenes_onnx: Path, photos: Path, capsys):
    """In one line, and without results."""
    model = onnx.load(scenes_onnx)
    (tensor,) = (t for t in model.graph.initializer if t.name.endswith("box_steps.1.last.bias"))
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(4, np.nan, np.float32), tensor.name))
    onnx.save(model, photos.parent / "bad.onnx")
    out = photos.parent / "out"
    arguments = ["predict", str(photos.parent / "bad.onnx"), str(photos / "0.png")]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "not finite" in capsys.readouterr().err.splitlines()[-1]
    assert not list(out.glob("*.json"))


def test_what_needs_torch_is_left_to_it(scenes_n: Detector, tmp_path: Path):
    """Weights, names, folders and missing files."""
    sm.save(scenes_n, tmp_path / "weights")
    for source in ("scenes_n", tmp_path / "weights", tmp_path / "missing.onnx", tmp_path):
        assert open_array_engine(source) is None
