"""Instance masks are the published ones, and travel as COCO's run lengths."""

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
def test_masks_are_those_of_the_published_code(size_px: tuple[int, int]):
    """Enlarged to what the model saw, cut at a half, taken from there to the original."""
    beliefs = predictions(3, 3)
    (found,) = instances(beliefs, Softmax(), CATEGORIES, (39, 55), [size_px])
    large = F.interpolate(beliefs.masks, size=(39, 55), mode="bilinear")
    panoptic_threshold = (large.sigmoid() > 0.5).float()
    expected = F.interpolate(panoptic_threshold, size=size_px, mode="nearest")[0].bool()
    order = beliefs.logits[-1, 0].softmax(-1)[:, :-1].amax(-1).argsort(descending=True)
    assert torch.equal(found.masks.unpack(), expected[order])


@pytest.mark.parametrize(("class_loss", "classes"), [(Softmax(), 3), (Focal(), 2)])
def test_masks_belong_to_their_boxes_and_scores(class_loss, classes):
    """Boxes are those of the detections; only masks above the threshold are made."""
    beliefs = predictions(1, classes)
    (plain,) = detections(beliefs, class_loss, CATEGORIES, [(20, 30)])
    (found,) = instances(beliefs, class_loss, CATEGORIES, (40, 56), [(20, 30)], threshold=0.4)
    kept = plain.above(0.4)
    assert 0 < len(found) == len(kept) == len(found.masks)
    assert torch.equal(found.xyxy_px, kept.xyxy_px)
    (none,) = instances(beliefs, class_loss, CATEGORIES, (40, 56), [(20, 30)], threshold=1.0)
    assert len(none) == len(none.masks) == 0
    assert none.to_dicts() == []


def test_run_lengths_are_cocos_and_stand_in_json():
    """pycocotools reads from the results the pixels that were found."""
    (found,) = instances(predictions(2, 3), Softmax(), CATEGORIES, (40, 56), [(33, 47)])
    found = found.above(0.3)
    rows = json.loads(json.dumps(found.to_dicts()))
    for row, mask in zip(rows, found.masks.unpack().numpy(), strict=True):
        assert np.array_equal(oracle.decode(row["segmentation"]).astype(bool), mask)
