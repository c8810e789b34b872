"""Evaluate saved detections, and refuse invalid files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_datasets import index_of, random_set
from setmatch.data.annotations.box_convention import XYWH_PX
from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import pack
from setmatch.errors import ConfigError, DataError
from setmatch.evaluation.evaluate import evaluate
from setmatch.evaluation.metrics.coco import average_precision
from setmatch.evaluation.saved_detections import is_saved_detections, read_detections
from written_boxes import CONVENTIONS, random_boxes, write_set, written

A = [10, 10, 50, 50]
GOOD = {"image_id": 5, "category_id": 3, "bbox": A, "score": 0.5}


def small() -> DetectionDataset:
    index = index_of([5, 6], [3, 9], [0, 1], [0, 1], [A, A])
    names, offsets = pack(["a/one.jpg", "two.jpg"])
    vars(index).update(names=names, name_offsets=offsets)
    return index


def saved(folder: Path, content: Any) -> Path:
    path = folder / "found.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_saved_results_have_the_metrics_of_the_originals(tmp_path: Path):
    for seed in range(20):
        index, results = random_set(seed)
        path = saved(tmp_path, results.to_coco(index.categories))
        report = evaluate(path, index)
        assert report.numbers() == average_precision(index, results).numbers()
        assert report.detections == len(results)
        assert report.diagnosis is None


def test_file_and_class_names_take_precedence_over_ids(tmp_path: Path):
    """predict_folder counts images from 1 and writes the ids of the model."""
    row = {**GOOD, "image_id": 1, "category_id": 77, "category_name": "class 9"}
    rows = [{**row, "file_name": "two.jpg"}, {**row, "file_name": "one.jpg"}]
    read = read_detections(saved(tmp_path, rows), small())
    assert (read.image_ids.tolist(), read.class_indices.tolist()) == ([6, 5], [1, 1])
    unknown = [*rows, {**rows[0], "category_name": "horse"}]
    assert len(read_detections(saved(tmp_path, unknown), small())) == 2
    with pytest.raises(DataError, match="no class in common"):
        read_detections(saved(tmp_path, unknown[2:]), small())
    with pytest.raises(DataError, match=r"detections\[1\]: image 'three.jpg' is not in"):
        read_detections(saved(tmp_path, [rows[0], {**row, "file_name": "three.jpg"}]), small())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image_id": 5', "not valid JSON, perhaps cut short"),
        ("", "not valid JSON"),
        ({"images": [], "annotations": []}, "holds a dict with 'images', 'annotations', not a"),
        ([3], r"detections\[0\] is 3; it should be an object"),
        ([GOOD, {**GOOD, "image_id": 7}], r"detections\[1\]: image_id 7 is not in made.json"),
        ([{**GOOD, "category_id": 1}], r"category_id 1 is not in made.json, whose ids are 3, 9"),
        ([{**GOOD, "image_id": "x"}], "image 'x' is not in made.json"),
        ([{**GOOD, "score": float("nan")}], "'score' is nan; it should be a number from 0 to 1"),
        ([{**GOOD, "score": 3}], "'score' is 3; it should be a number from 0 to 1"),
        ([{**GOOD, "score": "high"}], "'score' is 'high'"),
        ([{**GOOD, "bbox": [1, 2, 3]}], r"'bbox' is \[1, 2, 3\]; it should be a list"),
        ([{**GOOD, "bbox": [1, 2, -3, 4]}], r"'bbox' is \[1, 2, -3, 4\]; it should be x, y"),
        ([{**GOOD, "bbox": [1, 2, float("inf"), 4]}], "it should be x, y, width, height"),
        *(
            ([GOOD, {k: v for k, v in GOOD.items() if k != key}], rf"\[1\]: has no '{key}'")
            for key in GOOD
        ),
    ],
)
def test_an_invalid_file_is_refused_with_the_place(tmp_path: Path, content: Any, message: str):
    path = saved(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        evaluate(path, small())
    assert str(caught.value).startswith(str(path))


def test_missing_images_and_a_threshold_are_noted(tmp_path: Path):
    report = evaluate(saved(tmp_path, [GOOD]), small())
    assert report.notes[0] == "1 of 2 images have no detection at all"
    assert report.notes[1].startswith("No detection scores below 0.50: was a threshold applied?")
    whole = [{**GOOD, "score": 0.05}, {**GOOD, "image_id": 6}]
    assert evaluate(saved(tmp_path, whole), small()).notes == ()
    assert len(evaluate(saved(tmp_path, []), small()).notes) == 1


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"none.json: cannot be read"):
        evaluate(tmp_path / "none.json", small())


def test_only_json_files_are_saved_detections():
    assert is_saved_detections("found.JSON")
    assert not any(map(is_saved_detections, ("runs/first", "detr_r50", "a.pth", "a.safetensors")))


@pytest.mark.parametrize("name", ["scenes_n", "runs/first", "detections.csv"])
def test_a_name_of_a_model_is_refused_with_how_to_load_it(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match=rf'{name}: not a JSON .* setmatch\.load\("{name}"\)'):
        evaluate(name, tmp_path)


def test_more_than_a_hundred_objects_raise_the_limit(tmp_path: Path):
    boxes = np.column_stack([np.arange(120) * 4, np.zeros(120), np.full((120, 2), 3)])
    index = index_of([1], [1], [0] * 120, [0] * 120, boxes)
    rows = [{"image_id": 1, "category_id": 1, "bbox": b, "score": 0.5} for b in boxes.tolist()]
    report = evaluate(saved(tmp_path, rows), index)
    assert report.max_detections == 120
    assert report.AP50 > 1 - 1e-9


@pytest.mark.crossed
@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda each: each.words)
@pytest.mark.parametrize("seed", range(3))
def test_boxes_of_another_convention_are_said(tmp_path: Path, convention, seed: int):
    """Which one, with a box both ways; boxes as COCO results have them raise no doubt."""
    xywh_px = random_boxes(seed, 60)
    values = written(xywh_px, np.full((60, 2), (72, 96)), convention)
    source = write_set(tmp_path / "set", "coco", xywh_px) / "annotations/train.json"
    rows = [
        {"image_id": row // 2, "category_id": 1, "bbox": box, "score": 0.9 - row / 100}
        for row, box in enumerate(values.tolist())
    ]
    report = evaluate(saved(tmp_path, rows), source, split="train")
    said = [note for note in report.notes if "probably" in note]
    assert len(said) == (convention != XYWH_PX)
    assert (report.AP > 0.999) == (convention == XYWH_PX)
    if said:
        assert "read as x, y, width, height in pixels, but are probably" in said[0]
        assert ("fractions" in said[0]) == (convention.unit == "relative")
        assert "detections[" in said[0]


@pytest.mark.parametrize("key", ["bbox", "score"])
def test_a_detection_that_says_something_twice_is_refused(tmp_path: Path, key: str):
    text = json.dumps([GOOD]).replace(f'"{key}":', f'"{key}": 1, "{key}":')
    with pytest.raises(DataError, match=rf"found\.json: '{key}' is twice in one object"):
        read_detections(saved(tmp_path, text), small())
