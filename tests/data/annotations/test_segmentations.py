"""Segmentations are kept as in the file, in flat arrays."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setmatch.data.annotations.segmentations import parse_segmentations
from small_coco import read_segmentations

TRIANGLE = [1.0, 2.0, 10.5, 2.25, 5.0, 9.0]
RUNS = {"counts": "0T1", "size": [40, 60]}


def test_polygons_and_run_lengths_are_kept(tmp_path: Path):
    dataset = read_segmentations(tmp_path, [TRIANGLE, [0, 0, 1, 0, 1, 1, 0, 1]], RUNS, [])
    assert dataset.fixes == ()
    first, second = dataset.segmentations.rings(0)
    assert first.ravel().tolist() == TRIANGLE
    assert second.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert json.loads(dataset.segmentations.run_lengths(1)) == RUNS
    assert dataset.segmentations.rings(1) == []
    assert dataset.segmentations.rings(2) == []
    assert dataset.segmentations.run_lengths(2) == ""


def test_a_file_without_segmentations_has_none(tmp_path: Path):
    assert read_segmentations(tmp_path, [], None, "", {}).segmentations is None


@pytest.mark.parametrize(
    ("segmentation", "done"),
    [
        ([TRIANGLE[:5]], "three whole points"),
        ([[1, 2, 3, 4]], "three whole points"),
        ([[]], "three whole points"),
        (TRIANGLE[:5], "neither polygons nor run lengths"),
        ([["a"] * 6], "neither"),
        ("polygon", "neither"),
        (7, "neither"),
        ({"counts": "0T1"}, "neither"),
        ({"counts": 3, "size": [1, 2]}, "neither"),
        ({"counts": [1], "size": [1, "2"]}, "neither"),
        ([[1e300] * 6], "with such points"),
        ([[1, 2, 3, float("nan"), 5, 6]], "neither"),
    ],
)
def test_malformed_segmentations_are_left_out_and_the_box_stays(tmp_path: Path, segmentation, done):
    dataset = read_segmentations(tmp_path, [TRIANGLE], segmentation, [TRIANGLE])
    (fix,) = dataset.fixes
    assert (fix.file, fix.annotation) == ("a.png", 2)
    assert done in fix.description
    assert len(dataset.target(0)) == 3
    assert [len(dataset.segmentations.rings(i)) for i in range(3)] == [1, 0, 1]
    assert dataset.segmentations.rings(2)[0].ravel().tolist() == TRIANGLE


POINTS = st.floats(0, 1000, width=32)
RINGS = st.lists(POINTS, min_size=6, max_size=12).filter(lambda ring: len(ring) % 2 == 0)


@given(st.lists(st.lists(RINGS, max_size=3), min_size=1, max_size=6), st.data())
def test_chosen_annotations_keep_their_segmentations(
    annotations: list[list[list[float]]], data: st.DataObject
):
    """Any choice, in any order and repeated."""
    import msgspec

    texts = [msgspec.Raw(json.dumps(rings).encode()) for rings in annotations]
    segmentations = parse_segmentations(texts, lambda *_: pytest.fail("nothing is odd"))
    if segmentations is None:
        assert not any(annotations)
        return
    rows = data.draw(st.lists(st.integers(0, len(annotations) - 1), max_size=8))
    chosen = segmentations.take(np.array(rows, dtype=np.int64))
    for position, row in enumerate(rows):
        kept = [ring.ravel().tolist() for ring in chosen.rings(position)]
        assert kept == annotations[row]
