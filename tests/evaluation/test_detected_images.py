"""Saved detections find their image by id, name, path or stem, and never a wrong one."""

import json
from pathlib import Path
from typing import Any

import pytest

from sample_datasets import index_of
from setmatch.data.dataset import DetectionDataset
from setmatch.data.ragged import pack
from setmatch.errors import DataError
from setmatch.evaluation.saved_detections import load_detections, read_detections
from written_names import NAMES, WRITTEN, Written

BOX = [10, 10, 50, 50]


def dataset_of(*names: str) -> DetectionDataset:
    """Return a data set whose image i has the id 5 + i."""
    images = range(len(names))
    dataset = index_of(
        [5 + i for i in images], [3, 9], images, [0] * len(names), [BOX] * len(names)
    )
    letters, offsets = pack(list(names))
    vars(dataset).update(names=letters, name_offsets=offsets)
    return dataset


def saved(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "found.json"
    base = {"category_id": 3, "bbox": BOX, "score": 0.5}
    path.write_text(json.dumps([base | row for row in rows]))
    return path


def ids(folder: Path, dataset: DetectionDataset, key: str, *values: object) -> list[int]:
    rows = [{key: value} for value in values]
    return read_detections(saved(folder, rows), dataset).image_ids.tolist()


@pytest.mark.crossed
@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("folder", ["images", "cam0/day 1"])
@pytest.mark.parametrize("key", ["file_name", "image_id"])
def test_images_are_found_however_their_paths_are_written(
    tmp_path: Path, folder: str, key: str, written: Written
):
    dataset = dataset_of(*(f"{folder}/{name}" for name in NAMES))
    names = [written(folder, name) for name in NAMES[::-1]]
    assert ids(tmp_path, dataset, key, *names) == [7, 6, 5]


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("a.png", "b.v1.jpg", "c"), ("a", "b.v1", "c")),
        (("000009.png", "000012.png", "000015.png"), (9, 12, 15)),
        (("000009.png", "000012.png", "000015.png"), ("000009", "000012", "000015")),
        (("000005.png", "000007.png", "000006.png"), ("000005", "000007", "000006")),
        (("a.png", "000012.png", "b.png"), ("a", 12, "b")),
        (("x/1.png", "x/2.png", "y/3.png"), ("1", "2", "3")),
    ],
)
def test_ids_may_be_file_names_without_suffix(tmp_path: Path, names: tuple, values: tuple):
    """As YOLO's tools write them, digits as numbers. A note says so."""
    dataset = dataset_of(*names)
    assert ids(tmp_path, dataset, "image_id", *values) == [5, 6, 7]
    rows = [{"image_id": value} for value in values]
    assert "image ids are read as" in load_detections(saved(tmp_path, rows), dataset).notes[0]


def test_ids_of_the_data_set_come_before_numbers_of_files(tmp_path: Path):
    dataset = dataset_of("7.png", "6.png", "5.png")
    assert ids(tmp_path, dataset, "image_id", 7, 6, 5) == [7, 6, 5]


def test_a_name_of_several_images_is_refused(tmp_path: Path):
    dataset = dataset_of("a/p.png", "b/p.png", "c/q.png", "d/q.jpg")
    for value in ("p", "p.png", "q"):
        with pytest.raises(DataError, match=r"detections\[0\]: image '.*' may be any of 'a/p|'c/q"):
            ids(tmp_path, dataset, "image_id", value)
    assert ids(tmp_path, dataset, "file_name", "x\\b\\p.png", "q.JPG") == [6, 8]


def test_two_names_of_one_image_are_refused(tmp_path: Path):
    """Detections of two images would be measured on one."""
    dataset = dataset_of("p.png")
    both = r"'cam0/p\.png' and 'cam1/p\.png' both mean the image 'p\.png'"
    with pytest.raises(DataError, match=both):
        ids(tmp_path, dataset, "file_name", "cam0/p.png", "cam1/p.png")


@pytest.mark.parametrize("value", ["r", "000099", 99, "../p", "p.jpg"])
def test_an_image_that_is_not_in_the_data_set_is_refused(tmp_path: Path, value: object):
    with pytest.raises(DataError, match=r"detections\[1\]: .* is not in made\.json"):
        ids(tmp_path, dataset_of("a.png", "q.png"), "image_id", 5 if value == 99 else "a", value)


def test_class_names_are_compared_without_blanks_and_others_are_counted(tmp_path: Path):
    rows = [{"image_id": 5, "category_name": name} for name in (" class 3", "class 9 ", "horse ")]
    found = load_detections(saved(tmp_path, rows), dataset_of("a.png"))
    assert "1 detection is left out: made.json has no class 'horse'" in found.notes
    results = read_detections(saved(tmp_path, rows), dataset_of("a.png"))
    assert results.class_indices.tolist() == [0, 1]
