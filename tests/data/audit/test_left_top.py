"""The audit says which boxes may be parts of their image, and which images are listed twice."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from setmatch.data.audit.checks.checks import check_annotations
from setmatch.data.audit.findings import Finding
from setmatch.data.dataset import DetectionDataset
from setmatch.data.open import open_splits
from setmatch.structures.metadata import Preprocessing
from written_boxes import random_boxes

LEFT_TOP = "boxes at the left top of all images alone"
LISTED_TWICE = "the same image file listed several times"


def write_coco(root: Path, names: list[str], boxes: list[list[float]], sides_px: int) -> Path:
    """Write a COCO data set; box number i is in image number i, modulo their number."""
    images = [
        {"id": number, "file_name": name, "width": sides_px, "height": sides_px}
        for number, name in enumerate(names)
    ]
    objects = [
        {"id": number, "image_id": number % len(names), "category_id": 1, "bbox": box, "area": 1}
        for number, box in enumerate(boxes)
    ]
    for name in names:
        Image.new("L", (sides_px, sides_px)).save(root / name)
    tree = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (root / "annotations.json").write_text(json.dumps(tree))
    return root


def findings(root: Path, kind: str) -> list[Finding]:
    splits: dict[str, DetectionDataset] = open_splits(root / "annotations.json").datasets
    return [each for each in check_annotations(splits, 100, Preprocessing()) if each.kind == kind]


@pytest.mark.parametrize(
    ("whole", "sides_px", "words"),
    [
        (100, 400, "percent"),
        (100, 2500, "percent"),
        (1000, 2500, "thousandths"),
        (1000, 1000, None),
        (100, 150, None),
        (300, 400, None),
        (30, 400, None),
    ],
)
def test_boxes_that_may_be_parts_of_the_image_are_noted(
    tmp_path: Path, whole: int, sides_px: int, words: str | None
):
    """They may be pixels as well, so nothing is refused."""
    boxes = random_boxes(0, 60, whole, whole, (0.05, 0.3)).tolist()
    found = findings(write_coco(tmp_path, ["a.png", "b.png"], boxes, sides_px), LEFT_TOP)
    assert [each.severity for each in found] == (["note"] if words else [])
    assert all(each.action.endswith(f"--boxes {words}") for each in found)


def test_boxes_in_one_place_are_not_noted(tmp_path: Path):
    boxes = (np.array([40, 40, 0, 0]) + random_boxes(0, 60, 30, 30)).tolist()
    assert findings(write_coco(tmp_path, ["a.png"], boxes, 400), LEFT_TOP) == []


@pytest.mark.parametrize("names", ["aab", "aba", "aaa", "ab"])
def test_an_image_that_is_listed_twice_must_be_fixed(tmp_path: Path, names: str):
    """The boxes of one entry are background in the other."""
    files = [f"{name}.png" for name in names]
    root = write_coco(tmp_path, files, random_boxes(1, len(names), 90, 90).tolist(), 96)
    found = findings(root, LISTED_TWICE)
    times = {f"{name}.png": f"{names.count(name)} times" for name in names if names.count(name) > 1}
    assert {each.file: each.value for each in found} == times
    assert {each.severity for each in found} <= {"error"}
