"""Detections as JSON."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask

from setmatch.deploy.server.responses import to_json
from setmatch.inference.pipeline import ImageResult
from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks

CATEGORIES = Categories((7, 9), ("cat", None))


def result_of(masks: torch.Tensor | None, count: int) -> ImageResult:
    return ImageResult(
        torch.tensor([[1.00049, 2, 30.5, 40], [0, 0, 1, 1]])[:count],
        torch.tensor([0.9, 0.123456])[:count],
        torch.tensor([1, 0])[:count],
        CATEGORIES,
        (60, 50),
        None if masks is None else PackedMasks.pack(masks),
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_masks_are_run_lengths_of_the_image(count: int):
    masks = torch.zeros(count, 60, 50, dtype=torch.bool)
    masks[:, 10:20, 5:9] = True
    rows = json.loads(to_json(result_of(masks, count), "m"))["detections"]
    assert len(rows) == count
    for row, expected in zip(rows, masks.numpy(), strict=True):
        assert np.array_equal(mask.decode(row["mask"]), expected)


def test_numbers_are_rounded_and_classes_without_a_name_have_one():
    response = json.loads(to_json(result_of(None, 2), "m"))
    assert response == {
        "model": "m",
        "width": 50,
        "height": 60,
        "detections": [
            {"name": "class 9", "category_id": 9, "score": 0.9, "xyxy_px": [1.0, 2.0, 30.5, 40.0]},
            {"name": "cat", "category_id": 7, "score": 0.12346, "xyxy_px": [0.0, 0.0, 1.0, 1.0]},
        ],
    }
