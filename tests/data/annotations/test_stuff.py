"""Things only: stuff is left out of classes, annotations, masks and targets; images stay."""

from pathlib import Path

import numpy as np
import pytest

from setmatch.data.annotations.stuff import drop_stuff
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import DataError
from setmatch.structures.metadata import Categories


def _dataset(stuff: frozenset[int]) -> DetectionDataset:
    """Three images with 2, 0 and 3 annotations of the classes car, sky and cat."""
    return DetectionDataset(
        source=Path("set.json"),
        images=Path("images"),
        categories=Categories((4, 6, 9), ("car", "sky", "cat"), stuff),
        image_ids=np.arange(3),
        sizes_px=np.full((3, 2), 50, dtype=np.int32),
        names=b"abc",
        name_offsets=np.arange(4),
        offsets=np.array([0, 2, 2, 5]),
        xywh_px=np.array([[x, 1.0, 9.0, 9.0] for x in range(5)]),
        area_px=np.full(5, 81.0),
        class_indices=np.array([1, 2, 0, 1, 2], dtype=np.int32),
        crowd=np.array([False, True, False, False, False]),
        annotation_ids=np.arange(10, 15),
    )


def test_stuff_is_left_out_and_things_stay():
    """Class indices are renumbered; ids and names stay."""
    things = drop_stuff(_dataset(frozenset({1})))
    assert things.categories == Categories((4, 9), ("car", "cat"))
    assert things.annotation_ids.tolist() == [11, 12, 14]
    assert things.class_indices.tolist() == [1, 0, 1]
    assert things.offsets.tolist() == [0, 1, 1, 3]
    assert things.crowd.tolist() == [True, False, False]
    assert things.xywh_px[:, 0].tolist() == [1, 2, 4]
    assert [len(things.target(image)) for image in range(3)] == [0, 0, 2]
    assert "1 stuff classes" in things.notes[-1]


def test_data_without_stuff_is_unchanged():
    dataset = _dataset(frozenset())
    assert drop_stuff(dataset) is dataset


def test_data_of_stuff_only_is_refused():
    dataset = _dataset(frozenset({0, 1, 2}))
    with pytest.raises(DataError, match="every class is stuff"):
        drop_stuff(dataset)
