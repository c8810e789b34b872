"""Models are timed in turns, each in a process of its own; one bad model keeps its row."""

import dataclasses
import io
import json
from pathlib import Path

import pytest

from browser import OpenPage
from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.deploy.benchmark.benchmark import benchmark
from setmatch.deploy.benchmark.worker import serve
from setmatch.deploy.formats.onnx import ONNX, OnnxGraph
from setmatch.errors import ConfigError
from thorough import usually


@pytest.fixture
def file(fixed: OnnxGraph, tmp_path: Path) -> Path:
    fixed.save(tmp_path / "fixed.onnx")
    return tmp_path / "fixed.onnx"


@pytest.mark.parametrize("threads", usually([(2,), (1, 2)], (2,)))
def test_each_model_has_a_row_and_a_bad_one_says_why(
    file: Path, tmp_path: Path, threads: tuple[int, ...]
):
    """The last one is cut off; the others are timed nevertheless."""
    (tmp_path / "cut.onnx").write_bytes(file.read_bytes()[:1000])
    write_scenes(tmp_path / "data", 1, 2, 128, 0, 0)
    result = benchmark(
        [file, tmp_path / "cut.onnx"], threads=threads, rounds=2, data=tmp_path / "data"
    )
    half = len(threads)
    assert [row.threads for row in result.rows] == [*threads] * 2
    assert {row.engine for row in result.rows} == {"onnxruntime"}
    for row in result.rows[:half]:
        assert row.speed is not None
        assert row.speed.size_px == (96, 128)
        assert len(row.speed.times.latencies_s) == 10
        assert set(row.speed.batches_s) == {1, 2, 4, 8}
        assert row.speed.file_bytes == file.stat().st_size
        assert 2e7 < row.speed.peak_bytes < 4e8  # torch alone takes more
        assert row.AP == result.rows[0].AP is not None
    for row in result.rows[half:]:
        assert (row.speed, row.AP) == (None, None)
        assert "cut.onnx: damaged" in row.note


@pytest.mark.thorough
def test_weights_run_with_the_engines_that_are_named(
    fixed: OnnxGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are exported for them, here to a graph that is there; eager runs them as they are."""
    import setmatch.deploy.benchmark.benchmark as module

    kind = dataclasses.replace(ONNX, build=lambda *others: fixed)
    monkeypatch.setattr(module, "KINDS", {"onnxruntime": kind})
    monkeypatch.setenv("SETMATCH_CACHE", str(tmp_path))
    result = benchmark(["scenes_n"], engines=["eager", "onnxruntime"], rounds=1, size_px=(96, 128))
    eager, exported = (row.speed for row in result.rows)
    assert eager is not None
    assert exported is not None
    assert eager.size_px == exported.size_px == (96, 128)
    assert eager.peak_bytes > 2 * exported.peak_bytes  # torch


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engines": ["eagr"]}, "engine 'eagr': choose among own, eager, onnxruntime, openvino"),
        ({"rounds": 0}, "rounds = 0"),
        ({"threads": [0]}, r"threads = \[0\]"),
        ({"models": []}, "nothing to time"),
        ({"size_px": (0, 640)}, "size 0x640: sides can be"),
        ({"size_px": (64, 64)}, "does not run on pixels"),
        ({"engines": ["eager"]}, "an exported file runs with onnxruntime alone"),
    ],
)
def test_what_cannot_be_timed_is_refused(file: Path, options, message: str):
    """A model that does not run is an error if there is no other."""
    with pytest.raises(ConfigError, match=message):
        benchmark(**{"models": [file], "rounds": 1, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--threads", "two"], "--threads two"), (["--size", "big"], "--size big")],
)
def test_the_command_line_names_a_wrong_option(file: Path, capsys, options, message):
    assert main(["benchmark", str(file), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_line_writes_both_files(file: Path, tmp_path: Path, open_page: OpenPage):
    """The page fits a phone."""
    out = [tmp_path / "speed.json", tmp_path / "speed.html"]
    arguments = ["--rounds", "1", "--json", str(out[0]), "--html", str(out[1])]
    assert main(["benchmark", str(file), *arguments]) == 0
    (row,) = json.loads(out[0].read_text("utf-8"))["rows"]
    latency = row["speed"]["latency_s"]
    assert 0 < latency["median"] <= latency["p90"] <= latency["p99"]
    page = open_page(out[1], width=400)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert "onnxruntime" in page.inner_text("table")


def test_weights_are_timed_in_torch(file: Path):
    """By the loop that a process of its own runs; a wrong request does not end it."""
    requests = [
        {"source": "scenes_n", "trust": False, "size_px": [64, 96]},
        {"batch": 2, "count": 3},
        {"batch": -1, "count": 1},
        {"batch": 1, "count": 1},
    ]
    responses = io.StringIO()
    serve(io.StringIO("".join(json.dumps(each) + "\n" for each in requests)), responses)
    opened, timed, wrong, again = map(json.loads, responses.getvalue().splitlines())
    assert opened["size_px"] == [64, 96]
    assert opened["file_bytes"] > 1e6
    assert len(timed["seconds"]) == 3
    assert "error" in wrong
    assert len(again["seconds"]) == 1
