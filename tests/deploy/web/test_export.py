"""A page is written whole or not at all, and only a verified model is in it."""

import gzip
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import onnx
import pytest

import setmatch.deploy.web.export as module
from setmatch.cli import main
from setmatch.deploy.export import export
from setmatch.deploy.formats.onnx import OnnxGraph
from setmatch.errors import ConfigError
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.models.detector import Detector


@pytest.fixture
def graph(scenes_onnx: Path) -> OnnxGraph:
    """What tracing returns, which takes half a minute."""
    return OnnxGraph(onnx.load(scenes_onnx), None)


def with_noise(graph: OnnxGraph, name: str) -> None:
    (tensor,) = (each for each in graph.model.graph.initializer if each.name.endswith(name))
    values = onnx.numpy_helper.to_array(tensor) + np.float32(0.3)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def model_in(page: Path) -> bytes:
    """The ONNX file in a page."""
    found = re.search(r'id="model">([^<]*)<', page.read_text("utf-8"))
    assert found is not None
    return gzip.decompress(b64decode(found[1]))


def test_the_command_writes_a_verified_page(
    scenes_n: Detector, graph: OnnxGraph, tmp_path: Path, monkeypatch, capsys
):
    """One file; the model in it is that of a detector like any other. It replaces a page."""
    monkeypatch.setattr(module, "to_onnx", lambda *others, **named: graph)
    out = tmp_path / "site"
    (out / "runtime").mkdir(parents=True)
    (out / "index.html").write_text("earlier")
    assert main(["export", "scenes_n", "--to", "web", "--out", str(out)]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert [each.name for each in out.iterdir()] == ["index.html"]
    (tmp_path / "model.onnx").write_bytes(model_in(out / "index.html"))
    engine = OnnxRuntimeEngine(tmp_path / "model.onnx")
    assert engine.card == scenes_n.card
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "site"]


def test_no_page_is_left_if_the_model_in_it_differs(
    graph: OnnxGraph, tmp_path: Path, monkeypatch, capsys
):
    """Exit code 2, and an earlier page stays."""
    monkeypatch.setattr(module, "to_onnx", lambda *others, **named: graph)
    monkeypatch.setattr(OnnxGraph, "first_difference", lambda *others: "it differs")
    with_noise(graph, "decoder.box_steps.1.last.bias")
    out = tmp_path / "site"
    out.mkdir()
    (out / "index.html").write_text("earlier")
    assert main(["export", "scenes_n", "--to", "web", "--out", str(out)]) == 2
    assert "it differs" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["site"]
    assert (out / "index.html").read_text() == "earlier"


@pytest.mark.parametrize(
    ("files", "named"),
    [
        (["index.html", "notes.txt"], "notes.txt"),
        (["index.html", "runtime/mine.js"], "mine.js"),
        (["thesis/chapter.tex"], "thesis"),
    ],
)
def test_a_folder_with_other_files_is_refused(
    scenes_n: Detector, tmp_path: Path, files: list[str], named: str
):
    """A page replaces a page, and nothing else."""
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=f"has other files, such as {named}"):
        export(scenes_n, tmp_path, to="web")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": "a_file"}, "a_file: is a file; name a folder"),
        ({"path": "a_file/site"}, "is not a folder"),
        ({"path": "site", "end_to_end": True}, "end_to_end: a page takes whole images anyway"),
        ({"path": "site", "runtime": "a_file"}, "a_file: has not ort.wasm.bundle.min.mjs"),
        ({"path": "site", "size_px": (16, 640)}, "size 16x640: sides can be 32 to"),
        ({"path": "a.onnx", "to": "onnx", "runtime": "dist"}, "runtime dist: is for a page"),
    ],
)
def test_what_no_page_can_be_made_of_is_refused_at_once(
    scenes_n: Detector, tmp_path: Path, monkeypatch, arguments: dict, message: str
):
    """Before the model is traced, which takes long; nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    with pytest.raises(ConfigError, match=message):
        export(scenes_n, **{"to": "web", **arguments})
    assert [each.name for each in tmp_path.iterdir()] == ["a_file"]
