"""From annotated images to answers on the command line; where only words differ, in one process."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from setmatch.cli import main
from setmatch.data.synthetic.scenes import write_scenes

SMALL = ("--recipe", "detr_r18_tiny", "--set", "data.workers=0")
SMALL += ("--set", "data.short_side_px=64", "--set", "train.batch_size=4")
SMALL += ("--set", "train.micro_batch=4")


def setmatch(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `python -m setmatch` to its end, which must have this exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "setmatch", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder, train=8, val=4, size_px=64, seed=1, workers=1)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    setmatch("train", data, *SMALL, "--epochs", "1", "--out", folder)
    return folder


def test_a_run_keeps_its_recipe_log_and_model(run: Path):
    """Training leaves the complete recipe, a log and weights with a card."""
    assert "detr_r18_tiny" in (run / "recipe.yaml").read_text()
    assert "epochs: 1" in (run / "recipe.yaml").read_text()
    kinds = {json.loads(line)["kind"] for line in (run / "log.jsonl").read_text().splitlines()}
    assert kinds >= {"train", "val"}
    assert (run / "best" / "model.safetensors").is_file()


def test_a_finished_run_is_not_overwritten(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
):
    """Training into the folder of a run is refused without --resume, which adds nothing to it."""
    before = (run / "log.jsonl").read_bytes()
    assert main(["train", str(data), *SMALL, "--epochs", "1", "--out", str(run)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(data), "--resume", "--out", str(run)]) == 0
    assert (run / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "detr_r51"], "did you mean detr_r50?"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
        (["--device", "tpu"], "device tpu"),
        (["--set", "train.batch_size=5"], "5"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
):
    """An unknown model, missing weights, a device or batch that cannot be: one line, no folder."""
    assert main(["train", str(data), *SMALL, *arguments, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_held_out_validation_split_is_noted_once(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """If there is no validation split, evaluate logs what it evaluates instead."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "val.json").unlink()
    assert main(["evaluate", str(run), str(tmp_path / "data"), "--workers", "0"]) == 0
    assert caplog.text.count("held out") == 1


def test_a_run_is_evaluated(run: Path, data: Path, tmp_path: Path):
    """The twelve numbers and the classes come as a table on stdout and as JSON."""
    numbers, found = tmp_path / "numbers.json", tmp_path / "found.json"
    done = setmatch("evaluate", run, data, "--json", numbers, "--detections", found)
    report = json.loads(numbers.read_text())
    names = "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl per_class"
    assert [*report] == names.split()
    assert {*report["per_class"]} == {"circle", "square", "triangle", "star", "cross", "ring"}
    assert "AP50" in done.stdout
    assert "triangle" in done.stdout
    assert {*json.loads(found.read_text())[0]} >= {"image_id", "category_id", "bbox", "score"}


def test_pictures_are_answered_and_broken_ones_named(run: Path, data: Path, tmp_path: Path):
    """Half of the pictures being broken stops nothing; each is named."""
    pictures = tmp_path / "in"
    pictures.mkdir()
    good = sorted((data / "images").rglob("*.jpg"))[0]
    (pictures / "good.jpg").write_bytes(good.read_bytes())
    (pictures / "cut.jpg").write_bytes(good.read_bytes()[:200])
    out = tmp_path / "out"
    done = setmatch("predict", pictures, "--model", run, "--out", out, "--threshold", "0.01")
    assert "cut.jpg" in done.stderr
    assert "images: 1," in done.stdout
    rows = json.loads((out / "detections.json").read_text())
    assert {row["file_name"] for row in rows} == {"good.jpg"}
    with (out / "detections.csv").open() as file:
        assert len([*csv.DictReader(file)]) == len(rows)
    with Image.open(out / "pictures" / "good.jpg") as drawn, Image.open(good) as original:
        assert drawn.size == original.size


def test_no_picture_at_all_is_a_mistake(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """When nothing could be read, the exit code says so."""
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8")
    arguments = ["predict", tmp_path / "cut.jpg", "--model", run, "--out", tmp_path / "out"]
    assert main([*map(str, arguments)]) == 2
    assert "cut.jpg" in capsys.readouterr().err


def test_weights_survive_being_converted(run: Path, tmp_path: Path):
    """What convert writes, convert reads, to the last bit."""
    for source, destination in ((run, "ours"), (tmp_path / "ours", "again")):
        assert (
            main(["convert-weights", str(source), str(tmp_path / destination), "--to", "setmatch"])
            == 0
        )
    tensors = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("ours", "again")]
    assert tensors[0] == tensors[1]


def test_an_output_that_cannot_be_written_is_named(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A folder where a file must be, or a file where a folder must be, is one line."""
    file = tmp_path / "file"
    file.write_text("here")
    picture = sorted((data / "images").rglob("*.jpg"))[0]
    for arguments in (
        ("train", data, *SMALL, "--out", file / "run"),
        ("predict", picture, "--model", run, "--out", file / "out"),
        ("evaluate", run, data, "--json", tmp_path),
        ("convert-weights", run, file, "--to", "setmatch"),
        ("demo", "--out", file / "demo"),
    ):
        assert main([*map(str, arguments)]) == 2
        assert str(tmp_path) in capsys.readouterr().err.splitlines()[-1]
    assert file.read_text() == "here"


def test_a_stopped_training_says_how_to_go_on(data: Path, tmp_path: Path):
    """SIGTERM ends a run with a checkpoint, exit code 143, and one line without a traceback."""
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "setmatch", "train", data, *SMALL, "--epochs", "500", "--out", out],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not (out / "checkpoints").is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "--resume" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [((), "setmatch_n"), (("--model", "detr_r18_tiny"), "detr_r18_tiny")],
    ids=["family", "original"],
)
def test_the_demo_ends_with_a_page(tmp_path: Path, chosen: tuple[str, ...], shown: str):
    """From nothing to a page whose pictures are all there; the folder may be a relative one."""
    out = tmp_path / "demo"
    brief = ("--scenes", "4", "--minutes", "0.05")
    done = setmatch("demo", "--out", os.path.relpath(out), *brief, *chosen)
    page = out / "index.html"
    assert os.path.relpath(page) in done.stdout
    pictures = {path.name for path in (out / "pictures").iterdir()}
    assert len(pictures) == 24
    assert all(f"pictures/{name}" in page.read_text() for name in pictures)
    assert shown in page.read_text()
    assert "near zero" in page.read_text()
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["seconds"] > 3
    assert set(metrics["per_class"]) == {"circle", "square", "triangle", "star", "cross", "ring"}
    before = (out / "data/annotations/train.json").read_bytes()
    other = setmatch("demo", "--out", out, "--scenes", "5", "--minutes", "0.05", *chosen, code=2)
    assert "on 4 pictures, not of" in other.stderr
    assert (out / "data/annotations/train.json").read_bytes() == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [(("--minutes", "nan"), "minutes"), (("--model", "setmatch_nn"), "did you mean setmatch_n?")],
    ids=["no length", "no model"],
)
def test_a_demo_that_cannot_be_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, str], said: str
):
    """It is refused before the pictures are made."""
    assert main(["demo", "--out", str(tmp_path / "demo"), *asked]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
