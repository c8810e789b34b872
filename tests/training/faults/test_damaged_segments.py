"""A damaged PNG of segments is treated like a damaged image, in a run that trains masks."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import log_rows, run_stages

from setmatch.data.synthetic.scenes import write_scenes
from setmatch.errors import DataError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, 6, 3, 64, 2, 0, panoptic=True)
    return folder


@pytest.fixture
def data(scenes: Path, tmp_path: Path) -> Path:
    return shutil.copytree(scenes, tmp_path / "data")


def pngs(data: Path, split: str) -> list[Path]:
    return sorted((data / f"annotations/panoptic_{split}").iterdir())


def damage_middle(png: Path) -> None:
    content = png.read_bytes()
    png.write_bytes(content[:60] + b"????" + content[64:])


def run(data: Path, out: Path, *overrides: str, joint: bool = True):
    return run_stages(data, out, *overrides, joint=joint, format="panoptic")


def findings(folder: Path, name: str) -> list[dict]:
    report = json.loads((folder / "data_report.json").read_text())
    return [found for found in report["findings"] if name in found["value"]]


@pytest.mark.parametrize("damage", [lambda png: png.write_bytes(b""), damage_middle])
def test_segments_of_a_damaged_validation_png_count_as_missed(
    data: Path, tmp_path: Path, capsys, damage
):
    """The run reaches its last evaluation; the file is named once, and in the data report."""
    png = pngs(data, "val")[1]
    damage(png)
    folder = run(data, tmp_path / "run").folder
    assert capsys.readouterr().err.count(png.name) == 1
    (finding,) = findings(folder, png.name)
    assert finding["value"].startswith("no detections, so that its objects count as missed")
    assert {"AP", "PQ", "mask_AP"} <= log_rows(folder)[-1].keys()


def test_a_damaged_png_is_reported_before_the_first_step(data: Path, tmp_path: Path, capsys):
    png = pngs(data, "val")[1]
    png.write_bytes(b"")
    with pytest.raises(DataError, match=png.name):
        run(data, tmp_path / "strict", "data.on_bad_image=stop")
    assert not (tmp_path / "strict").exists()
    run(data, tmp_path / "run")
    output = capsys.readouterr().err
    assert output.index(f"images cannot be read: {png.name}") < output.index("step 1/")


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("split", ["train", "val"])
def test_many_damaged_pngs_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, joint, split
):
    """Also if the run starts with a box stage, which needs no PNG."""
    for png in pngs(data, split)[:2]:
        png.write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of \d images cannot be read: .*\.png"):
        run(data, tmp_path / "run", joint=joint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", [lambda png: png.write_bytes(b""), damage_middle])
def test_a_training_image_with_a_damaged_png_is_skipped(
    data: Path, tmp_path: Path, monkeypatch, damage
):
    monkeypatch.setattr("setmatch.data.images.corrupt_files.UNREADABLE_AT_MOST", 0.2)
    png = pngs(data, "train")[1]
    damage(png)
    folder = run(data, tmp_path / "run").folder
    (finding,) = findings(folder, png.name)
    assert finding["action"] == "left out of training"


def test_a_model_without_masks_needs_no_png(data: Path, tmp_path: Path):
    for split in ("train", "val"):
        for png in pngs(data, split):
            png.write_bytes(b"")
    preset = ("model.preset=tiny", "train.train_only=all")
    folder = run(data, tmp_path / "run", *preset).folder
    assert findings(folder, ".png") == []
    assert log_rows(folder)[-1]["kind"] == "val"
