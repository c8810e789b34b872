"""Polygons that lie elsewhere than their box are found, and no others."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from setmatch.data.annotations.segmentations import from_rings
from setmatch.data.audit.audit import audit
from setmatch.data.audit.checks.polygon_checks import polygons_elsewhere

BOX = [10.0, 20.0, 30.0, 20.0]
POLYGONS = {
    "the box": ([10, 20, 40, 20, 40, 40, 10, 40], False),
    "a part of the box": ([12, 22, 16, 22, 16, 30], False),
    "two pixels beyond": ([8, 18, 42, 18, 42, 42, 8, 42], False),
    "twice as large, as the image was": ([20, 40, 80, 40, 80, 80, 20, 80], True),
    "x and y in turn": ([60, 10, 80, 10, 80, 40, 60, 40], True),
    "of another object": ([70, 60, 90, 60, 90, 75], True),
    "a line in the box": ([12, 30, 20, 30, 38, 30], False),
    "a line elsewhere": ([70, 60, 80, 60, 90, 60], True),
}


def write(root: Path, polygons: list[list[float]]) -> Path:
    Image.new("RGB", (100, 80)).save(root / "a.png")
    annotations = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": BOX, "area": 100, "iscrowd": 0}
        | {"segmentation": [polygon] if polygon else []}
        for number, polygon in enumerate(polygons, start=1)
    ]
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "height": 80, "width": 100}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": annotations,
    }
    (root / "train.json").write_text(json.dumps(tree))
    return root / "train.json"


@pytest.mark.parametrize(("polygon", "found"), POLYGONS.values(), ids=POLYGONS)
def test_polygons_outside_of_their_box_are_found(tmp_path: Path, polygon: list[float], found: bool):
    """One of many is a note; objects without polygons do not matter."""
    path = write(tmp_path, [polygon, [], *[POLYGONS["the box"][0]] * 30])
    findings = [each for each in audit(path).findings if each.kind.startswith("polygons outside")]
    assert [(each.severity, each.annotation) for each in findings] == [("note", 1)] * found


def test_many_of_them_must_be_fixed(tmp_path: Path):
    path = write(tmp_path, [POLYGONS["x and y in turn"][0]] * 3 + [POLYGONS["the box"][0]] * 9)
    findings = [each for each in audit(path).findings if each.kind.startswith("polygons outside")]
    assert [each.severity for each in findings] == ["error"] * 3
    assert "were the images or the boxes resized" in findings[0].action


@given(st.integers(0, 2**32), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_each_object_is_compared_with_its_own_polygons(seed: int, rings: list[int]):
    """In any order, whatever the number of their polygons."""
    random = np.random.default_rng(seed)
    centers = random.uniform(100, 900, (len(rings), 2)) + 2000 * np.arange(len(rings))[:, None]
    owner = np.repeat(np.arange(len(rings)), rings)
    points = centers[owner].repeat(4, axis=0) + random.uniform(-40, 40, (4 * len(owner), 2))
    segmentations = from_rings(points.astype(np.float32), [4] * len(owner), rings)
    if segmentations is None:
        return
    order = random.permutation(len(rings))
    wrong = random.random(len(rings)) < 0.3
    low = centers - 50 + np.where(wrong, 300, 0)[:, None]
    xywh_px = np.column_stack([low, np.full((len(rings), 2), 100.0)])
    found, count = polygons_elsewhere(segmentations.take(order), xywh_px[order])
    assert count == sum(each > 0 for each in rings)
    assert found.tolist() == (wrong & (np.array(rings) > 0))[order].tolist()
