"""Predict folders: files of results, complete or absent."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from fake_detectors import RedFinder, write_images
from setmatch.errors import DataError, SetmatchError
from setmatch.inference.predict_folder import predict_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of several shapes, in folders; one of the files is no image."""
    return write_images(tmp_path)


def test_an_unreadable_image_is_reported_and_the_others_are_processed(folder: Path):
    summary = predict_folder(RedFinder(), [folder / "in"], folder / "out", 0.7, progress=False)
    assert (summary.images, summary.detections) == (3, 3)
    ((path, reason),) = summary.failed
    assert path == folder / "in/b.jpg"
    assert "cannot be read" in reason
    images = {str(p.relative_to(folder / "out")) for p in folder.glob("out/**/*") if p.is_file()}
    assert images == {
        "detections.json",
        "detections.csv",
        "images/a.png",
        "images/c.JPG",
        "images/deep/a.png",
    }


def test_without_a_readable_image_no_file_is_written(folder: Path):
    """An empty list of detections would mean that images were processed."""
    for name in ("x.jpg", "y.png"):
        (folder / name).write_bytes(b"no image")
    for sources in (["in/b.jpg"], ["x.jpg", "y.png", "in/b.jpg"]):
        paths = [folder / source for source in sources]
        message = rf"none of the {len(paths)} images could be read; the first: .*{sources[0]}"
        with pytest.raises(DataError, match=message):
            predict_folder(RedFinder(), paths, folder / "out", progress=False)
    assert not [path for path in folder.glob("out/**/*") if path.is_file()]


def test_detections_are_coco_results_with_names(folder: Path):
    predict_folder(RedFinder(), [folder / "in"], folder / "out", 0.7, progress=False)
    rows = json.loads((folder / "out/detections.json").read_text("utf-8"))
    assert [(row["image_id"], row["file_name"]) for row in rows] == [
        (1, "a.png"),
        (3, "c.JPG"),
        (4, "deep/a.png"),
    ]
    assert rows[0]["bbox"] == pytest.approx([32, 16, 32, 32], abs=1e-3)
    assert {(row["category_id"], row["category_name"]) for row in rows} == {(3, "red")}
    with (folder / "out/detections.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["file_name"] for row in table] == ["a.png", "c.JPG", "deep/a.png"]
    assert [float(table[0][key]) for key in ("x", "y", "width", "height")] == rows[0]["bbox"]


def test_drawn_images_have_distinct_names(tmp_path: Path):
    """An image that is drawn as PNG does not take the name of another."""
    (tmp_path / "in").mkdir()
    for name in ("a.bmp", "a.bmp.png", "a.bmp_.png"):
        Image.new("RGB", (64, 64), "red").save(tmp_path / "in" / name)
    summary = predict_folder(RedFinder(), [tmp_path / "in"], tmp_path / "out", progress=False)
    drawn = sorted(path.name for path in (tmp_path / "out/images").iterdir())
    assert summary.images == len(drawn) == 3
    assert drawn == ["a.bmp.png", "a.bmp_.png", "a.bmp__.png"]


def test_a_second_run_ignores_drawn_images(folder: Path):
    """The results folder is inside the source folder."""
    out = folder / "in/out"
    first = predict_folder(RedFinder(), [folder / "in"], out, progress=False)
    second = predict_folder(RedFinder(), [folder / "in"], out, progress=False)
    assert (first.images, second.images) == (3, 3)


def test_results_stay_in_their_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Even if a source is above the working folder."""
    monkeypatch.chdir(folder / "in/deep")
    predict_folder(RedFinder(), ["../a.png", "a.png"], folder / "out", progress=False)
    drawn = sorted(str(path.relative_to(folder / "out")) for path in folder.glob("out/**/*.png"))
    assert drawn == ["images/a.png", "images/deep/a.png"]


def test_a_diverged_model_leaves_no_incomplete_results(folder: Path):
    Image.new("RGB", (64, 64)).save(folder / "in/black.png")
    with pytest.raises(SetmatchError):
        predict_folder(RedFinder(), [folder / "in"], folder / "out", progress=False)
    assert not (folder / "out/detections.json").exists()
