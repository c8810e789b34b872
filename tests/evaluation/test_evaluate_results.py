"""Saved detections measured like a model, and broken files named for what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sample_datasets import index_of, random_set
from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import pack
from setmatch.errors import DataError
from setmatch.evaluation.evaluate_results import evaluate_saved, holds_detections, read_detections
from setmatch.evaluation.metrics.average_precision import average_precision

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


def test_saved_results_give_the_numbers_they_were_saved_from(tmp_path: Path):
    """What an evaluation writes is read back to the last digit."""
    for seed in range(20):
        index, results = random_set(seed)
        path = saved(tmp_path, results.to_coco(index.categories))
        report = evaluate_saved(path, index)
        assert report.numbers() == average_precision(index, results).numbers()
        assert report.detections == len(results)
        assert report.diagnosis is None


def test_what_predict_wrote_is_matched_by_name(tmp_path: Path):
    """predict counts images from 1 and knows the model's ids: file and class names decide."""
    row = {**GOOD, "image_id": 1, "category_id": 77, "category_name": "class 9"}
    rows = [{**row, "file_name": "two.jpg"}, {**row, "file_name": "one.jpg"}]
    read = read_detections(saved(tmp_path, rows), small())
    assert (read.image_ids.tolist(), read.class_indices.tolist()) == ([6, 5], [1, 1])
    strange = [*rows, {**rows[0], "category_name": "horse"}]
    assert len(read_detections(saved(tmp_path, strange), small())) == 2
    with pytest.raises(DataError, match="no class in common"):
        read_detections(saved(tmp_path, strange[2:]), small())
    with pytest.raises(DataError, match=r"detections\[1\]: picture 'three.jpg' is not in"):
        read_detections(saved(tmp_path, [rows[0], {**row, "file_name": "three.jpg"}]), small())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"image_id": 5', "not valid JSON, perhaps cut short"),
        ("", "not valid JSON"),
        ({"images": [], "annotations": []}, "holds a dict with 'images', 'annotations', not a"),
        ([3], r"detections\[0\] is 3; it should be an object"),
        ([GOOD, {**GOOD, "image_id": 7}], r"detections\[1\]: image_id 7 is not in made.json"),
        ([{**GOOD, "category_id": 1}], r"category_id 1 is not in made.json, whose ids are 3, 9"),
        ([{**GOOD, "image_id": "x"}], "'image_id' is 'x'; it should be an integer"),
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
def test_a_broken_file_is_named_with_place_and_value(tmp_path: Path, content: Any, said: str):
    """One line that says which detection is wrong, and how."""
    path = saved(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        evaluate_saved(path, small())
    assert str(caught.value).startswith(str(path))


def test_what_lowers_the_numbers_is_said(tmp_path: Path):
    """Detections of some images, or above a threshold, look like a bad model; a note tells."""
    report = evaluate_saved(saved(tmp_path, [GOOD]), small())
    assert report.notes[0] == "1 of 2 images have no detection at all"
    assert report.notes[1].startswith("No detection scores below 0.50: was there a threshold?")
    whole = [{**GOOD, "score": 0.05}, {**GOOD, "image_id": 6}]
    assert evaluate_saved(saved(tmp_path, whole), small()).notes == ()
    assert len(evaluate_saved(saved(tmp_path, []), small()).notes) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    """A missing file is no traceback."""
    with pytest.raises(DataError, match=r"none.json: cannot be read"):
        evaluate_saved(tmp_path / "none.json", small())


def test_only_json_means_saved_detections():
    """A run, a checkpoint and a published name are models."""
    assert holds_detections("found.JSON")
    assert not any(map(holds_detections, ("runs/first", "detr_r50", "a.pth", "a.safetensors")))


def test_more_than_a_hundred_objects_raise_the_limit(tmp_path: Path):
    """As with a model, a full image's answers all count."""
    boxes = np.column_stack([np.arange(120) * 4, np.zeros(120), np.full((120, 2), 3)])
    index = index_of([1], [1], [0] * 120, [0] * 120, boxes)
    rows = [{"image_id": 1, "category_id": 1, "bbox": b, "score": 0.5} for b in boxes.tolist()]
    report = evaluate_saved(saved(tmp_path, rows), index)
    assert report.max_detections == 120
    assert report.AP50 > 1 - 1e-9
