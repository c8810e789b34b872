"""A model runs by the engine that is asked for, from a file that is written and verified once."""

import dataclasses
import errno
import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image

import setmatch as sm
from fake_detectors import RedFinder
from setmatch.cli import main
from setmatch.data.synthetic.scenes import scene
from setmatch.deploy import load as module
from setmatch.deploy.engine_cache import detector_folder
from setmatch.deploy.formats.base import ExportedGraph
from setmatch.deploy.formats.onnx import ONNX, OnnxGraph
from setmatch.deploy.formats.openvino import OPENVINO, OpenVinoGraph
from setmatch.errors import ConfigError, ExtraMissingError, VerificationError
from setmatch.inference.engines.onnxruntime import OnnxRuntimeEngine
from setmatch.inference.engines.openvino import OpenVinoEngine
from setmatch.losses.classification import Softmax
from setmatch.models.detector import Detector


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builder:
    """Returns a graph that is there, for making one takes half a minute, and counts."""

    def __init__(self, graph: ExportedGraph) -> None:
        self.graph, self.built = graph, 0

    def __call__(self, *others: object) -> ExportedGraph:
        self.built += 1
        return self.graph


@pytest.fixture
def builders(
    fixed: OnnxGraph, fixed_openvino: OpenVinoGraph, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Builder]:
    """What builds the files of each engine: of one size, so that verification is quick."""
    monkeypatch.setattr("setmatch.deploy.verification.verify.BATCHES", (1,))
    found = {"onnxruntime": Builder(fixed), "openvino": Builder(fixed_openvino)}
    for (name, build), kind in zip(found.items(), (ONNX, OPENVINO)):
        monkeypatch.setitem(module.KINDS, name, dataclasses.replace(kind, build=build))
    return found


def test_the_engine_detects_what_the_model_does(
    scenes_n: Detector, scenes_onnx: Path, monkeypatch: pytest.MonkeyPatch
):
    """In images of any size."""
    build = Builder(OnnxGraph(onnx.load(scenes_onnx), None))
    monkeypatch.setitem(module.KINDS, "onnxruntime", dataclasses.replace(ONNX, build=build))
    engine = sm.load("scenes_n", engine="onnxruntime")
    assert isinstance(engine, OnnxRuntimeEngine)
    for number, side in enumerate((200, 333)):
        image = scene((1, number), side).pixels[:, : side * 2 // 3]
        ours, theirs = (sm.predict(each, image, threshold=0.2) for each in (scenes_n, engine))
        assert len(ours) == len(theirs) > 0
        assert torch.allclose(ours.xyxy_px, theirs.xyxy_px, rtol=0, atol=1e-2)


def test_a_file_is_written_and_verified_once(
    builders: dict[str, Builder], cache: Path, caplog: pytest.LogCaptureFixture
):
    """Until it is damaged; where it is, is said."""
    with caplog.at_level(logging.WARNING, "setmatch"):
        assert isinstance(sm.load("scenes_n", engine="openvino"), OpenVinoEngine)
    (weights,) = cache.glob("engines/*/openvino-*/model.bin")
    assert f"it stays in {weights.parent}" in caplog.text
    sm.load("scenes_n", engine="openvino")
    assert builders["openvino"].built == 1
    weights.write_bytes(weights.read_bytes()[:-1])
    assert isinstance(sm.load("scenes_n", engine="openvino"), OpenVinoEngine)
    assert builders["openvino"].built == 2
    names = sorted(each.name for each in weights.parent.iterdir())
    assert names == ["manifest.json", "model.bin", "model.xml"]
    assert len(list(weights.parents[1].iterdir())) == 1


def test_each_change_of_the_model_has_its_own_file(
    scenes_n: Detector, builders: dict[str, Builder], cache: Path
):
    """Other weights, and the same weights for other image sizes."""
    from setmatch.structures.metadata import Preprocessing

    sm.load("scenes_n", engine="onnxruntime")
    sm.load("scenes_n", engine="onnxruntime", preprocessing=Preprocessing(96, 160))
    assert builders["onnxruntime"].built == 2
    assert len(list(cache.glob("engines/*/onnx-*"))) == 2
    other = sm.load("scenes_n", num_queries=scenes_n.num_queries + 1)
    assert detector_folder(other) != detector_folder(scenes_n)


def test_a_file_that_another_process_wrote_meanwhile_stays(
    builders: dict[str, Builder], cache: Path
):
    """A process that does not lock, as on a disk without locks: the slower one uses its file."""
    from setmatch.deploy.engine_cache import cached_engine

    build, detector = builders["onnxruntime"], sm.load("scenes_n")
    faster = module.KINDS["onnxruntime"]

    def slowly(*others: object) -> ExportedGraph:
        import setmatch.deploy.engine_cache as one_process

        one_process._make(detector, faster, one_process.engine_folder(detector, faster))
        return build.graph

    cached_engine(detector, dataclasses.replace(faster, build=slowly))
    assert build.built == 1
    (folder,) = cache.glob("engines/*")
    assert [each.name.split("-")[0] for each in folder.iterdir()] == ["onnx"]


def test_one_process_waits_for_another_that_writes_the_same_file(
    builders: dict[str, Builder], cache: Path
):
    """And makes none of its own."""
    from filelock import FileLock

    folder = detector_folder(sm.load("scenes_n"))
    (cache / "locks").mkdir(parents=True)
    opened: list[object] = []
    with FileLock(cache / "locks" / f"{folder.name}.lock"):
        waiting = threading.Thread(
            target=lambda: opened.append(sm.load("scenes_n", engine="onnxruntime"))
        )
        waiting.start()
        waiting.join(0.2)
        assert builders["onnxruntime"].built == 0
    waiting.join()
    assert isinstance(opened[0], OnnxRuntimeEngine)
    assert builders["onnxruntime"].built == 1


def test_what_a_killed_export_left_is_removed_by_the_next_one(
    builders: dict[str, Builder], cache: Path
):
    folder = detector_folder(sm.load("scenes_n"))
    left = folder / ".writing-1234-0123456789abcdef"
    left.mkdir(parents=True)
    (left / "model.onnx").write_bytes(b"half")
    sm.load("scenes_n", engine="onnxruntime")
    assert [each.name.split("-")[0] for each in folder.iterdir()] == ["onnx"]


def test_a_file_that_fails_is_not_kept(
    builders: dict[str, Builder], cache: Path, fixed: OnnxGraph, with_noise
):
    builders["onnxruntime"].graph = with_noise(fixed, "encoder.layers.0.ffn.0.bias")
    with pytest.raises(VerificationError, match=r"encoder.layers.0.ffn.0"):
        sm.load("scenes_n", engine="onnxruntime")
    assert not [each for each in (cache / "engines").rglob("*") if each.is_file()]


def test_a_full_disk_is_said_of_the_folder_of_the_engine(
    builders: dict[str, Builder], cache: Path, monkeypatch: pytest.MonkeyPatch
):
    """Not of the temporary one in it, and nothing is left."""

    def full(self: OnnxGraph, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(OnnxGraph, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/onnx-[0-9a-f]+'$"):
        sm.load("scenes_n", engine="onnxruntime")
    left = [*(cache / "engines").rglob("*")]
    assert not [each for each in left if each.is_file() or "writing" in each.name]


def times(monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float]) -> list[int]:
    """Let engines take this long; return the list of how many were measured each time."""
    measured: list[int] = []

    def fake(candidates, rounds):
        measured.append(len(candidates))
        return [[each] * rounds for each in list(seconds.values())[: len(candidates)]]

    monkeypatch.setattr("setmatch.deploy.fastest.time_interleaved", fake)
    return measured


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        ({"eager": 3, "onnxruntime": 2, "openvino": 1}, OpenVinoEngine),
        pytest.param(
            {"eager": 1, "onnxruntime": 2, "openvino": 3}, Detector, marks=pytest.mark.thorough
        ),
    ],
)
def test_auto_is_the_fastest_engine_and_is_measured_once(
    builders: dict[str, Builder], monkeypatch: pytest.MonkeyPatch, seconds, kind: type
):
    measured = times(monkeypatch, seconds)
    for _ in range(2):
        assert isinstance(sm.load("scenes_n", engine="auto"), kind)
    assert measured == [3]


@pytest.mark.thorough
def test_auto_leaves_out_what_is_not_installed_or_differs(
    builders: dict[str, Builder],
    fixed: OnnxGraph,
    with_noise,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """An engine that is not verified is named; one that is missing is not."""
    measured = times(monkeypatch, {"eager": 1})
    monkeypatch.setitem(sys.modules, "openvino", None)
    builders["onnxruntime"].graph = with_noise(fixed, "encoder.layers.0.ffn.0.bias")
    with caplog.at_level(logging.WARNING, "setmatch"):
        assert isinstance(sm.load("scenes_n", engine="auto"), Detector)
    assert measured == [1]
    assert "engine onnxruntime is left out: generated scene 0 at 96x128 px" in caplog.text
    assert "openvino is left out" not in caplog.text
    (path,) = cache.glob("engines/*/fastest-*.json")
    monkeypatch.setattr(OnnxGraph, "first_difference", lambda *_: "")  # which is dear to find
    for damaged in ("", "[]", '{"fastest": 3}', '{"fastest": "gone"}', "[" * 100_000):
        path.write_text(damaged)
        assert isinstance(sm.load("scenes_n", engine="auto"), Detector)
    assert json.loads(path.read_text())["fastest"] == "eager"


class OwnLoss(Softmax):
    """A classification loss that no file can name."""


def without_queries() -> Detector:
    """A baseline, as those of torchvision."""
    model = RedFinder()
    model.has_queries = False
    return model


def with_own_loss() -> Detector:
    model = RedFinder()
    model.class_loss = OwnLoss()
    return model


@pytest.mark.parametrize("make", [without_queries, with_own_loss])
def test_auto_is_the_model_itself_if_it_cannot_be_exported(make: Callable[[], Detector]):
    model = make()
    assert module.with_engine(model, "auto") is model
    with pytest.raises(ConfigError, match="model stub: "):
        module.with_engine(model, "onnxruntime")


def test_auto_is_the_model_itself_where_the_cache_cannot_be_written(
    builders: dict[str, Builder],
    scenes_n: Detector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "file" / "cache"))
    times(monkeypatch, {"eager": 1})
    with caplog.at_level(logging.WARNING, "setmatch"):
        assert module.with_engine(scenes_n, "auto") is scenes_n
    for name in ("onnxruntime", "openvino"):
        assert f"engine {name} is left out: " in caplog.text


@pytest.mark.parametrize("below", ["", "cache", "a/b"])
def test_a_cache_that_is_no_folder_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path / "file" / below))
    with pytest.raises(ConfigError, match=r"locks: cannot be made.*SETMATCH_CACHE"):
        sm.load("scenes_n", engine="onnxruntime")


@pytest.mark.parametrize(("engine", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_without_the_libraries_the_extra_is_named(
    engine, extra: str, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, engine, None)
    with pytest.raises(ExtraMissingError, match=rf"needs {engine}; .*setmatch\[{extra}\]"):
        sm.load("scenes_n", engine=engine)
    assert not cache.exists()


def test_what_cannot_be_run_by_an_engine_is_refused(scenes_onnx: Path):
    with pytest.raises(ConfigError, match="engine tensorflow: "):
        sm.load("scenes_n", engine="tensorflow")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="this file is run by onnxruntime, not by openvino"):
        sm.load(scenes_onnx, engine="openvino")
    assert isinstance(sm.load(scenes_onnx, engine="auto"), OnnxRuntimeEngine)


@pytest.mark.thorough
def test_commands_take_an_engine(
    builders: dict[str, Builder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Predict, evaluate and compare; and all say which ones there are."""
    from setmatch.data.synthetic.scenes import write_scenes

    write_scenes(tmp_path / "data", 1, 2, 128, 0, 0)
    Image.fromarray(scene((1, 0), 200).pixels).save(tmp_path / "a.png")
    data, image, out = (str(tmp_path / each) for each in ("data", "a.png", "out"))
    by = ["--engine", "openvino"]
    assert main(["predict", "scenes_n", image, "--out", out, *by]) == 0
    assert main(["evaluate", "scenes_n", data, "--workers", "0", *by]) == 0
    assert main(["compare", "scenes_n", "--rounds", "1", "--batch-size", "1", *by]) == 0
    assert builders["openvino"].built == 1
    capsys.readouterr()
    assert main(["predict", "scenes_n", image, "--out", out, "--engine", "fast"]) == 2
    assert "auto" in capsys.readouterr().err
