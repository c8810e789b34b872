"""Predict folders: files of results, complete or absent."""

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fake_detectors import BOX, RedFinder, red_box_image, to_pil, write_images
from setmatch.errors import ConfigError, DataError, SetmatchError
from setmatch.files.folder_lock import locked
from setmatch.inference.predict_folder import predict_folder
from setmatch.structures.batch import Batch
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import PredictionGroup
from small_disk import files_of_at_most
from special_files import SPECIAL


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
        "drawn/a.png",
        "drawn/c.JPG",
        "drawn/deep/a.png",
    }


def test_two_runs_cannot_mix_their_results(folder: Path):
    """A folder that another process writes is refused before the first image."""
    with locked(folder / "out"), pytest.raises(ConfigError, match="out: is being written by"):
        predict_folder(RedFinder(), [folder / "in"], folder / "out", progress=False)
    assert not (folder / "out").exists()


def test_without_a_readable_image_no_file_is_written(folder: Path):
    """An empty list of detections would mean that images were processed."""
    for name in ("x.jpg", "y.png"):
        (folder / name).write_bytes(b"no image")
    for sources in (["in/b.jpg"], ["x.jpg", "y.png", "in/b.jpg"]):
        paths = [folder / source for source in sources]
        several = rf"none of the {len(paths)} images could be read; the first: .*{sources[0]}"
        message = several if len(paths) > 1 else rf"^[^;]*{sources[0]}: cannot be read as an image"
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
    drawn = sorted(path.name for path in (tmp_path / "out/drawn").iterdir())
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
    assert drawn == ["drawn/a.png", "drawn/deep/a.png"]


def test_a_diverged_model_leaves_no_incomplete_results(folder: Path):
    Image.new("RGB", (64, 64)).save(folder / "in/black.png")
    with pytest.raises(SetmatchError):
        predict_folder(RedFinder(), [folder / "in"], folder / "out", progress=False)
    assert not (folder / "out/detections.json").exists()


class Interrupted(RedFinder):
    """Ctrl-C comes at the third image."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        if len(self.shapes) == 2:
            raise KeyboardInterrupt
        return super().forward(batch)


def test_ctrl_c_keeps_the_results_of_the_images_until_then(tmp_path: Path):
    for number in range(5):
        to_pil(red_box_image(64, 96, BOX)).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    summary = predict_folder(Interrupted(), [tmp_path], out, 0.7, batch_size=1, progress=False)
    assert (summary.interrupted, summary.images, summary.detections) == (True, 2, 2)
    rows = json.loads((out / "detections.json").read_text("utf-8"))
    assert [row["file_name"] for row in rows] == ["0.png", "1.png"]
    with (out / "detections.csv").open(newline="", encoding="utf-8") as file:
        assert len([*csv.DictReader(file)]) == 2
    drawn = sorted(path.name for path in (out / "drawn").iterdir())
    assert drawn == ["0.png", "1.png"]


def test_ctrl_c_before_the_first_image_leaves_nothing(folder: Path):
    detector = Interrupted()
    detector.shapes += [None, None]
    with pytest.raises(KeyboardInterrupt):
        predict_folder(detector, [folder / "in"], folder / "out", progress=False)
    assert not [path for path in folder.glob("out/**/*") if path.is_file()]


LATIN_1 = os.fsdecode(b"caf\xe9.png")
LONG = "a" * 251


@pytest.mark.parametrize(
    "name", [LATIN_1, f"{LONG}.png", f"{LONG}.bmp", "ü" * 125 + ".bmp", "a\nb.png", "'.png"]
)
def test_one_odd_name_does_not_keep_results_from_being_written(tmp_path: Path, name: str):
    """A name of 255 bytes, or of another encoding than UTF-8: seen after all work was done."""
    (tmp_path / "in").mkdir()
    for each in (name, "plain.png"):
        to_pil(red_box_image(64, 96, BOX)).save(tmp_path / "in/b.png")
        (tmp_path / "in/b.png").rename(tmp_path / "in" / each)
    summary = predict_folder(RedFinder(), [tmp_path / "in"], tmp_path / "out", progress=False)
    assert (summary.images, summary.failed) == (2, ())
    rows = json.loads((tmp_path / "out/detections.json").read_text("utf-8"))
    assert {row["file_name"] for row in rows} == {name, "plain.png"}
    assert len(list((tmp_path / "out/drawn").iterdir())) == 2
    for path in (tmp_path / "out/drawn").iterdir():
        assert Image.open(path).size == (96, 64)


def test_shortened_names_stay_distinct(tmp_path: Path):
    """Two names of 255 bytes that differ only in their last letters, drawn as PNG."""
    (tmp_path / "in").mkdir()
    for last in "ab":
        to_pil(red_box_image(64, 96, BOX)).save(tmp_path / "in/b.bmp")
        (tmp_path / "in/b.bmp").rename(tmp_path / "in" / f"{LONG[1:]}{last}.bmp")
    predict_folder(RedFinder(), [tmp_path / "in"], tmp_path / "out", progress=False)
    assert len(list((tmp_path / "out/drawn").iterdir())) == 2


def test_an_image_that_its_format_cannot_hold_is_drawn_as_png(tmp_path: Path):
    """No WebP has more than 16383 pixels a side, but a file called .webp may be a PNG."""
    to_pil(red_box_image(64, 17000, (0, 0, 9000, 64))).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.webp")
    summary = predict_folder(RedFinder(), [tmp_path / "a.webp"], tmp_path / "out", progress=False)
    assert summary.images == 1
    assert Image.open(tmp_path / "out/drawn/1.png").size == (17000, 64)


@pytest.mark.parametrize(
    "start", ["=", "+", "-", "@", "\t", "\r", "'", "''", "\uff1d", "", "b=", "7"]
)
def test_a_spreadsheet_runs_no_name_as_a_formula(tmp_path: Path, start: str):
    """Names come back by removing one apostrophe; detections.json has them as they are."""
    (tmp_path / "in").mkdir()
    name = f"{start}cmd.png"
    to_pil(red_box_image(64, 96, BOX)).save(tmp_path / "in" / name)
    model = RedFinder()
    model.card = replace(model.card, categories=Categories((3, 8), (f"{start}LINK(1)", "b")))
    predict_folder(model, [tmp_path / "in"], tmp_path / "out", 0.7, progress=False)
    with (tmp_path / "out/detections.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert not set(row["file_name"][0] + row["category"][0]) & set("=+-@\t\r\uff1d")
    assert row["file_name"].removeprefix("'") == name
    assert row["category"].removeprefix("'") == f"{start}LINK(1)"
    assert float(row["x"]) == pytest.approx(32, abs=1e-3)
    (result,) = json.loads((tmp_path / "out/detections.json").read_text("utf-8"))
    assert result["file_name"] == name


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_named(folder: Path, kind: str):
    """Neither waited for nor passed over; a folder of such a name is no image at all."""
    SPECIAL[kind](folder / "in/pipe.png")
    summary = predict_folder(RedFinder(), [folder / "in"], folder / "out", progress=False)
    named = {path.name for path, _ in summary.failed}
    assert summary.images == 3
    assert named == {"b.jpg"} | ({"pipe.png"} if kind != "folder" else set())


def test_a_second_run_into_the_same_folder_says_what_it_replaced(folder: Path):
    """And which results of the first one it left there, because it did not write them."""
    model, out = RedFinder(), folder / "out"
    assert predict_folder(model, [folder / "in"], out, progress=False).replaced == ""
    again = predict_folder(model, [folder / "in"], out, progress=False)
    assert again.replaced == "replaced the results of an earlier run"
    other = predict_folder(model, [folder / "in/c.JPG"], out, progress=False)
    assert other.replaced.endswith("of which there still are drawn/a.png, drawn/deep/a.png")
    (out / "panoptic.json").write_text("{}")
    masks = predict_folder(model, [folder / "in"], out, progress=False)
    assert masks.replaced.endswith("there still are panoptic.json")


def test_predicting_into_the_folder_of_a_data_set_leaves_its_images(folder: Path):
    """Whatever their names are."""
    own = folder / "data/images/a.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"not ours")
    predict_folder(RedFinder(), [folder / "in"], folder / "data", progress=False)
    assert own.read_bytes() == b"not ours"


def test_results_do_not_depend_on_batches_and_drawing(folder: Path):
    """The same rows in the same order; without drawn images there is no folder for them."""
    tables = []
    for number, options in enumerate([{}, {"batch_size": 1}, {"batch_size": 3, "drawn": False}]):
        out = folder / f"out {number}"
        predict_folder(RedFinder(), [folder / "in"], out, progress=False, **options)
        tables.append((out / "detections.json").read_bytes())
        assert (out / "drawn").exists() == options.get("drawn", True)
    assert len(set(tables)) == 1


class TwoClasses(RedFinder):
    """Predicts that the second box is of the class "not red"."""

    def forward(self, batch: Batch) -> tuple[PredictionGroup, ...]:
        (group,) = super().forward(batch)
        logits = group.predictions.logits.clone()
        logits[..., 1, :] = torch.tensor([0.0, 5.0, 0.0])
        return (replace(group, predictions=replace(group.predictions, logits=logits)),)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (None, {"red", "not red"}),
        (["red"], {"red"}),
        ([0], {"red"}),
        (["1"], {"not red"}),
        (["red", 1], {"red", "not red"}),
    ],
)
def test_only_objects_of_the_wanted_classes_are_written(folder: Path, classes, names: set[str]):
    """A class is named, or given by its index, as a number or as text."""
    out = folder / "out"
    summary = predict_folder(
        TwoClasses(), [folder / "in"], out, 0.0, progress=False, classes=classes
    )
    rows = json.loads((out / "detections.json").read_text("utf-8"))
    assert {row["category_name"] for row in rows} == names
    assert summary.detections == len(rows) == 3 * len(names)


def test_a_class_that_there_is_not_is_named_before_any_work(folder: Path):
    for wrong, message in (("rde", "did you mean red"), ("7", "class indices are 0 to")):
        with pytest.raises(ConfigError, match=message):
            predict_folder(RedFinder(), [folder / "in"], folder / "out", classes=[wrong])
    assert not (folder / "out").exists()


def test_a_full_disk_ends_the_run_without_incomplete_results(tmp_path: Path):
    """The error of a thread that writes is the error of the run, and names the file.

    Only a part of each drawn JPEG fits.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / f"{number}.jpg")
    out = tmp_path / "out"
    with files_of_at_most(700), pytest.raises(OSError, match="File too large") as full:
        predict_folder(RedFinder(), [tmp_path], out, progress=False)
    assert Path(full.value.filename) == out / "drawn/0.jpg"
    assert [each for each in out.rglob("*") if each.is_file()] == []
