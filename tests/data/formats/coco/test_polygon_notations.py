"""COCO polygons by points, or flat, are read as COCO's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from setmatch.data.audit.fix import fix_coco
from setmatch.data.formats.coco.polygon_notations import as_polygons
from setmatch.data.formats.coco.read import read_coco
from small_coco import read_segmentations

Polygon = list[float]
FIRST: Polygon = [10, 5, 30, 5, 30.5, 20, 10, 20]
SECOND: Polygon = [40, 5, 50, 5, 50, 20]
DONE = "polygons as points, or flat: read"


def points(polygon: Polygon) -> list[list[float]]:
    return [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]


NOTATIONS: dict[str, tuple[Callable[..., Any], int]] = {  # and how many polygons it can hold
    "flat": (lambda polygon: polygon, 1),
    "points": (points, 1),
    "points of each": (lambda *polygons: list(map(points, polygons)), 2),
}


@pytest.mark.parametrize("boxed", [True, False], ids=["with a box", "without"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("notation", NOTATIONS)
def test_polygons_in_other_notations_are_read(
    tmp_path: Path, notation: str, count: int, boxed: bool
):
    write, most = NOTATIONS[notation]
    polygons = [FIRST, SECOND][: min(count, most)]
    read_segmentations(tmp_path, write(*polygons))
    tree = json.loads((tmp_path / "set.json").read_text())
    if not boxed:
        del tree["annotations"][0]["bbox"]
    (tmp_path / "set.json").write_text(json.dumps(tree))
    dataset = read_coco(tmp_path / "set.json")
    assert dataset.segmentations is not None
    assert [ring.ravel().tolist() for ring in dataset.segmentations.rings(0)] == polygons
    right = 50 if len(polygons) > 1 else 30.5
    assert dataset.xywh_px.tolist() == [[1, 1, 9, 9] if boxed else [10, 5, right - 10, 15]]
    assert dataset.fix_counts[DONE] == 1
    fixed, _ = fix_coco(tree, dataset)
    (tmp_path / "set.json").write_text(json.dumps(fixed))
    again = read_coco(tmp_path / "set.json")
    assert again.fixes == ()
    assert again.segmentations is not None
    assert [ring.ravel().tolist() for ring in again.segmentations.rings(0)] == polygons


@pytest.mark.parametrize(
    "value",
    [
        *(
            [FIRST],
            [FIRST, SECOND],
            [],
            [[]],
            [1, 2, 3, 4],
            [1, 2, 3, 4, 5, 6, 7],
            [[1, 2], [3, 4]],
        ),
        *(
            [[1, 2], [3, 4], [5, 6, 7]],
            [[1, 2], [3, 4], [5, "6"]],
            ["1"] * 6,
            [True] * 6,
            None,
            "a",
        ),
        *({"counts": [1]}, [points(FIRST), SECOND], [None] * 6, [[[1, 2]]], 7),
    ],
    ids=str,
)
def test_other_values_are_left_to_the_reader(value: Any):
    assert as_polygons(value) is None
