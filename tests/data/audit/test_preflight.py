"""The checks before every training, and the report that a run keeps of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from setmatch.data.audit.preflight import check_data
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_dataset
from setmatch.errors import DataError
from setmatch.recipe_text import load_recipe
from setmatch.structures.metadata import Preprocessing
from setmatch.training.start.setup import build_setup
from setmatch.training.start.start_run import open_run_folder
from setmatch.training.start.training_data import open_training_data


def write_split(folder: Path, split: str, boxes: list[list[float]], **more: Any) -> None:
    """Write one black image of 60 by 40 with these boxes of class cat, as COCO JSON."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    Image.new("RGB", (60, 40)).save(folder / "images" / f"{split}.png")
    rows = [
        {"id": 7 + k, "image_id": 1, "category_id": 3, "bbox": box, "area": 9, "iscrowd": 0} | more
        for k, box in enumerate(boxes)
    ]
    tree = {
        "images": [{"id": 1, "file_name": f"{split}.png", "height": 40, "width": 60}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": rows,
    }
    (folder / "annotations" / f"{split}.json").write_text(json.dumps(tree))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set with a box without area, one outside, and more boxes than 5 queries."""
    data = tmp_path / "data"
    valid = [[k, 0, 20, 20 + k] for k in range(6)]
    write_split(data, "train", [*valid, [5, 5, 0, 9], [70, 0, 5, 5]])
    write_split(data, "val", [[0, 0, 20, 20]])
    return data


def splits(folder: Path) -> tuple[DetectionDataset, DetectionDataset]:
    return open_dataset(folder, "train"), open_dataset(folder, "val")


def test_every_fix_is_counted_and_listed(folder: Path, tmp_path: Path):
    """The report of a run lists what was left out, with file, annotation id and value."""
    check_data(*splits(folder), 5, Preprocessing()).write(tmp_path / "data_report.json")
    report = json.loads((tmp_path / "data_report.json").read_text())
    assert report["splits"]["train"]["objects_to_learn"] == 6
    assert report["splits"]["train"]["left_out"] == 2
    assert report["counts"]["box without area: left out of training"] == 1
    assert sum(report["counts"].values()) == len(report["findings"])
    listed = {(f["file"], f["annotation"]): f for f in report["findings"] if f["annotation"]}
    assert listed["train.png", 13]["value"] == "bbox [5, 5, 0, 9]"
    assert listed["train.png", 14]["kind"] == "box outside the image"


def test_the_report_includes_what_augmentation_clipped_and_dropped(folder: Path, tmp_path: Path):
    """These counts are beside the findings from before the training."""
    counts = {"since_step": 0, "objects": 9, "clipped": 2, "dropped": 1}
    check_data(*splits(folder), 5, Preprocessing()).write(tmp_path / "report.json", counts)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["while_training"] == counts
    assert report["findings"]


def test_a_warning_names_an_image_with_more_objects_than_queries(folder: Path):
    """It gives the number of objects, and what to do."""
    (warning,) = (
        sentence
        for sentence in check_data(*splits(folder), 5, Preprocessing()).sentences()
        if "queries" in sentence
    )
    assert "train/train.png" in warning
    assert "6 objects" in warning
    assert "raise num_queries" in warning
    assert not any(
        "queries" in sentence
        for sentence in check_data(*splits(folder), 6, Preprocessing()).sentences()
    )


def test_a_warning_names_a_class_without_a_box(folder: Path):
    sentences = check_data(*splits(folder), 5, Preprocessing()).sentences()
    assert any("class without a box" in sentence and "dog" in sentence for sentence in sentences)


def test_a_missing_validation_split_is_a_warning(folder: Path):
    sentences = check_data(splits(folder)[0], None, 5, Preprocessing()).sentences()
    assert any("no validation split" in sentence for sentence in sentences)


RECIPE = {
    "model": {"preset": "detr_r18_tiny", "arguments": {"num_queries": 5}},
    "data": {"short_side_px": 64, "long_side_px": 96},
}


def test_a_run_keeps_the_report(folder: Path, tmp_path: Path):
    """What training found in its data lies in the folder of the run."""
    start = build_setup(open_training_data(folder), load_recipe(RECIPE), "none", None, False)
    open_run_folder(tmp_path / "run", start)
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert any("more objects than queries" in kind for kind in report["counts"])


@pytest.mark.parametrize("boxes", [[], [[5, 5, 0, 9], [70, 0, 5, 5]]], ids=["none", "no area"])
def test_training_refuses_data_without_any_object(tmp_path: Path, boxes):
    """The error tells what became of the annotations."""
    write_split(tmp_path, "train", boxes)
    write_split(tmp_path, "val", [[0, 0, 20, 20]])
    with pytest.raises(DataError, match="no object to train on in its 1 images") as refused:
        build_setup(open_training_data(tmp_path), load_recipe(RECIPE), "none", None, False)
    assert ("box without area" in str(refused.value)) == bool(boxes)
