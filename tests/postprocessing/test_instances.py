"""Instance masks equal the published ones, and are exported as COCO RLE."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as oracle
from torch.nn import functional as F

from setmatch.losses.classification import Focal, Softmax
from setmatch.postprocessing.detections import detections, instances
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions

CATEGORIES = Categories((3, 7), ("cat", "dog"))


def predictions(seed: int, classes: int) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 6, classes, generator=generator)
    boxes = torch.rand(2, 1, 6, 4, generator=generator)
    return Predictions(logits, boxes, torch.randn(1, 6, 10, 14, generator=generator))


@pytest.mark.parametrize("size_px", [(40, 56), (97, 61), (13, 200)])
def test_masks_equal_those_of_the_published_code(size_px: tuple[int, int]):
    """Resized to the input size, thresholded at 0.5, resized to the original size."""
    predicted = predictions(3, 3)
    (decoded,) = instances(predicted, Softmax(), CATEGORIES, (39, 55), [size_px])
    large = F.interpolate(predicted.masks, size=(39, 55), mode="bilinear")
    binary = (large.sigmoid() > 0.5).float()
    expected = F.interpolate(binary, size=size_px, mode="nearest")[0].bool()
    order = predicted.logits[-1, 0].softmax(-1)[:, :-1].amax(-1).argsort(descending=True)
    assert torch.equal(decoded.masks.unpack(), expected[order])


@pytest.mark.parametrize(("class_loss", "classes"), [(Softmax(), 3), (Focal(), 2)])
def test_masks_belong_to_their_boxes_and_scores(class_loss, classes):
    """They are computed for detections above the threshold only."""
    predicted = predictions(1, classes)
    (plain,) = detections(predicted, class_loss, CATEGORIES, [(20, 30)])
    (decoded,) = instances(predicted, class_loss, CATEGORIES, (40, 56), [(20, 30)], threshold=0.4)
    above = plain.above(0.4)
    assert 0 < len(decoded) == len(above) == len(decoded.masks)
    assert torch.equal(decoded.xyxy_px, above.xyxy_px)
    (none,) = instances(predicted, class_loss, CATEGORIES, (40, 56), [(20, 30)], threshold=1.0)
    assert len(none) == len(none.masks) == 0
    assert none.to_dicts() == []


def test_masks_are_exported_as_coco_rle_in_json():
    """pycocotools decodes the same pixels."""
    (decoded,) = instances(predictions(2, 3), Softmax(), CATEGORIES, (40, 56), [(33, 47)])
    decoded = decoded.above(0.3)
    rows = json.loads(json.dumps(decoded.to_dicts()))
    for row, mask in zip(rows, decoded.masks.unpack().numpy(), strict=True):
        assert np.array_equal(oracle.decode(row["segmentation"]).astype(bool), mask)
