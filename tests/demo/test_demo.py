"""The command line from annotated images to predictions, and the demo."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.images.image_paths import find_images
from setmatch.data.synthetic.scenes import write_scenes
from setmatch.demo import browser
from setmatch.demo.demo import demo
from setmatch.errors import ConfigError, ExtraMissingError
from setmatch.files.folder_lock import locked
from setmatch.models.detector import Detector

SMALL = ("--recipe", "detr_r18_tiny", "--set", "data.workers=0")
SMALL += ("--set", "data.short_side_px=64", "--set", "train.batch_size=4")
SMALL += ("--set", "train.micro_batch=4")


def setmatch(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> Any:
    """Run a command, check its exit code and return what it printed."""
    capsys.readouterr()
    ended = main([*map(str, arguments)])
    printed = capsys.readouterr()
    assert ended == code, printed.err
    assert "Traceback" not in printed.err
    return printed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, train=8, val=4, size_px=64, seed=1, workers=1)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", str(data), *SMALL, "--epochs", "1", "--out", str(folder)]) == 0
    return folder


def test_a_run_has_its_recipe_log_and_weights(run: Path):
    assert "detr_r18_tiny" in (run / "recipe.yaml").read_text()
    assert "epochs: 1" in (run / "recipe.yaml").read_text()
    kinds = {json.loads(line)["kind"] for line in (run / "log.jsonl").read_text().splitlines()}
    assert kinds >= {"train", "val"}
    assert (run / "best" / "model.safetensors").is_file()


def test_two_demos_cannot_share_a_folder(tmp_path: Path):
    """The second would replace the images that the first trains on."""
    with locked(tmp_path), pytest.raises(ConfigError, match="is being written by"):
        demo(tmp_path, scenes=8, minutes=0.1)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_not_overwritten(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    """It is refused without --resume, which adds nothing to a finished run."""
    before = (run / "log.jsonl").read_bytes()
    assert main(["train", str(data), *SMALL, "--epochs", "1", "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(data), "--resume", "--out", str(run)]) == 0
    assert (run / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "detr_r51"], "did you mean detr_r50?"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--device", "tpu"], "device tpu"),
        (["--set", "train.batch_size=5"], "5"),
    ],
)
def test_invalid_training_arguments_leave_no_folder(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    """The error is one line."""
    assert main(["train", str(data), *SMALL, *arguments, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_held_out_validation_split_is_noted_once(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """If there is no validation split, evaluate logs what it evaluates instead."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "val.json").unlink()
    assert main(["evaluate", str(run), str(tmp_path / "data"), "--workers", "0"]) == 0
    assert caplog.text.count("held out") == 1


def test_evaluate_prints_a_table_and_writes_json(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    numbers, detections = tmp_path / "numbers.json", tmp_path / "detections.json"
    files = ("--json", numbers, "--detections", detections)
    printed = setmatch(capsys, "evaluate", run, data, *files, "--workers", "0")
    report = json.loads(numbers.read_text())
    names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl per_class thresholds"
    assert [*report] == names.split()
    assert {*report["per_class"]} == {"circle", "square", "triangle", "star", "cross", "ring"}
    assert "AP50" in printed.out
    assert "triangle" in printed.out
    assert {*json.loads(detections.read_text())[0]} >= {"image_id", "category_id", "bbox", "score"}


def test_predict_reports_broken_images_and_continues(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    images = tmp_path / "in"
    images.mkdir()
    good = sorted((data / "images").rglob("*.jpg"))[0]
    (images / "good.jpg").write_bytes(good.read_bytes())
    (images / "cut.jpg").write_bytes(good.read_bytes()[:200])
    out = tmp_path / "out"
    arguments = ("--model", run, "--out", out, "--threshold", "0.01")
    printed = setmatch(capsys, "predict", images, *arguments)
    assert "cut.jpg" in printed.err
    assert "images: 1," in printed.out
    rows = json.loads((out / "detections.json").read_text())
    assert {row["file_name"] for row in rows} == {"good.jpg"}
    with (out / "detections.csv").open() as file:
        assert len([*csv.DictReader(file)]) == len(rows)
    with Image.open(out / "drawn" / "good.jpg") as drawn, Image.open(good) as original:
        assert drawn.size == original.size


def test_predict_fails_if_no_image_can_be_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8")
    arguments = ["predict", tmp_path / "cut.jpg", "--model", run, "--out", tmp_path / "out"]
    assert main([*map(str, arguments)]) == 2
    assert "cut.jpg" in capsys.readouterr().err


def test_converted_weights_are_bit_equal_after_another_conversion(run: Path, tmp_path: Path):
    for source, destination in ((run, "ours"), (tmp_path / "ours", "again")):
        assert (
            main(["convert-weights", str(source), str(tmp_path / destination), "--to", "setmatch"])
            == 0
        )
    tensors = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("ours", "again")]
    assert tensors[0] == tensors[1]


def test_an_output_that_cannot_be_written_is_reported(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """In one line: a folder in a file's place, or a file in a folder's."""
    file = tmp_path / "file"
    file.write_text("here")
    image = sorted((data / "images").rglob("*.jpg"))[0]
    for arguments in (
        ("train", data, *SMALL, "--out", file / "run"),
        ("predict", image, "--model", run, "--out", file / "out"),
        ("evaluate", run, data, "--json", tmp_path),
        ("convert-weights", run, file, "--to", "setmatch"),
        ("demo", "--out", file / "demo"),
    ):
        assert main([*map(str, arguments)]) == 2
        assert str(tmp_path) in capsys.readouterr().err.splitlines()[-1]
    assert file.read_text() == "here"


@pytest.mark.thorough
def test_a_stopped_training_says_how_to_resume(data: Path, tmp_path: Path):
    """SIGTERM ends it with a checkpoint, exit code 143 and a message without a traceback."""
    out = tmp_path / "run"
    often = ("--set", "train.checkpoint_every=1")
    command = ("train", data, *SMALL, *often, "--epochs", "500", "--out", out)
    process = subprocess.Popen(
        [sys.executable, "-m", "setmatch", *command],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not (out / "checkpoints").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert "--resume" in stderr.splitlines()[-1]
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("arguments", "model", "has_extra"),
    [
        pytest.param((), "setmatch_n", True, id="default"),
        pytest.param(
            ("--model", "detr_r18_tiny"),
            "detr_r18_tiny",
            False,
            id="detr",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_the_demo_ends_with_a_page(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    model: str,
    has_extra: bool,
):
    """All images of the page exist, and a page for the browser is linked. `--out` may be relative.

    The latter page takes half a minute to write; tests/deploy/web writes one.
    """
    out = tmp_path / "demo"
    verified_on = []

    def export(model: Detector, folder: Path, *, to: str, verify_on: Path) -> None:
        if not has_extra:
            raise ExtraMissingError("needs onnx")
        verified_on.append(verify_on)
        folder.mkdir()
        (folder / "index.html").write_text("")

    monkeypatch.setattr(browser, "export", export)
    short = ("--scenes", "4", "--minutes", "0.02")
    printed = setmatch(capsys, "demo", "--out", os.path.relpath(out), *short, *arguments)
    page = out / "index.html"
    assert os.path.relpath(page) in printed.out
    images = {path.name for path in (out / "images").iterdir()}
    assert len(images) == 24
    assert all(f"images/{name}" in page.read_text() for name in images)
    assert model in page.read_text()
    assert "near zero" in page.read_text()
    assert ('href="browser/index.html"' in page.read_text()) == has_extra
    assert ("pip install 'setmatch[onnx]'" in caplog.text) == (not has_extra)
    assert ("setmatch export run --to web" in page.read_text()) == (not has_extra)
    assert [len(find_images([each])) for each in verified_on] == [12] * has_extra
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["seconds"] > 0.02 * 60
    assert set(metrics["per_class"]) == {"circle", "square", "triangle", "star", "cross", "ring"}
    before = (out / "data/annotations/train.json").read_bytes()
    others = ("--scenes", "5", "--minutes", "0.02", *arguments)
    assert "on 4 images, not of" in setmatch(capsys, "demo", "--out", out, *others, code=2).err
    assert (out / "data/annotations/train.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--minutes", "nan"), "minutes"), (("--model", "setmatch_nn"), "did you mean setmatch_n?")],
    ids=["minutes", "model"],
)
def test_invalid_demo_arguments_leave_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], message: str
):
    assert main(["demo", "--out", str(tmp_path / "demo"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
