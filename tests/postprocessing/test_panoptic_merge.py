"""The panoptic merge equals the published one, pixel for pixel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from setmatch.losses.classification import Focal, Softmax
from setmatch.postprocessing.panoptic_merge import panoptic_segments
from setmatch.structures.metadata import Categories
from setmatch.structures.outputs import Predictions
from setmatch.structures.segments import Segments

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
CLASSES = 12
STUFF = frozenset(range(5, CLASSES))
CATEGORIES = Categories(tuple(range(CLASSES)), (None,) * CLASSES, STUFF)


def reference(logits, masks, stuff, seen_px, size_px, threshold):
    """The published merge, written plainly: every mask resized, softmax, Pillow."""
    scores, class_indices = logits.softmax(-1).max(-1)
    keep = (class_indices != logits.shape[-1] - 1) & (scores > threshold)
    masks, class_indices = masks[keep], class_indices[keep].tolist()
    large = F.interpolate(masks[:, None], size=seen_px, mode="bilinear")[:, 0]
    merge = True
    while class_indices:
        winner = large.flatten(1).T.softmax(-1).argmax(-1).view(seen_px)
        if merge:
            for class_index in set(class_indices) & stuff:
                same = [place for place, other in enumerate(class_indices) if other == class_index]
                winner[torch.isin(winner, torch.tensor(same))] = same[0]
        ids = Image.fromarray(winner.numpy().astype(np.int32))
        number = np.asarray(ids.resize(size_px[::-1], Image.Resampling.NEAREST))
        areas = [int((number == place).sum()) for place in range(len(class_indices))]
        left = [place for place, area in enumerate(areas) if area > 4]
        if len(left) == len(class_indices):
            return number + 1, class_indices
        large, class_indices, merge = large[left], [class_indices[place] for place in left], False
    return np.zeros(size_px, dtype=np.int32), []


def merged(logits, masks, categories, seen_px, size_px, threshold) -> Segments:
    predictions = Predictions(logits[None, None], torch.rand(1, 1, len(masks), 4), masks[None])
    (segments,) = panoptic_segments(
        predictions, Softmax(), categories, seen_px, [size_px], threshold
    )
    return segments


def smooth(queries: int, height: int, width: int, cell: int, sharp: float, generator):
    coarse = torch.randn(
        queries, 1, -(-height // cell) + 1, -(-width // cell) + 1, generator=generator
    )
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic")[:, 0]
    return sharp * fine + 0.05 * torch.randn(queries, height, width, generator=generator)


SIDE = st.integers(2, 30)


@settings(max_examples=80)
@given(
    cells=st.tuples(SIDE, SIDE),
    short=st.integers(0, 3),
    size_px=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    queries=st.integers(1, 20),
    kinds=st.sampled_from([0, 1, 4]),
    sharp=st.sampled_from([0.0, 0.1, 3.0, 10.0]),
    threshold=st.sampled_from([0.85, 0.4, 0.0]),
    seed=st.integers(0, 1000),
)
def test_generated_masks_merge_as_published(
    cells, short, size_px, queries, kinds, sharp, threshold, seed
):
    """For all sizes, with several masks of the same stuff and masks that are too small."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(queries, CLASSES + 1, generator=generator)
    logits[:, 5 : 5 + kinds] += 4  # much of the same stuff
    masks = smooth(queries, *cells, 4, sharp, generator)
    seen_px = (4 * cells[0] - short, 4 * cells[1] - short)
    number, class_indices = reference(logits, masks, STUFF, seen_px, size_px, threshold)
    segments = merged(logits, masks, CATEGORIES, seen_px, size_px, threshold)
    assert segments.classes.tolist() == class_indices
    assert np.array_equal(segments.ids.numpy(), number)
    assert (segments.area_px >= 5).all()


@pytest.mark.parametrize("size_px", [(320, 448), (160, 224), (111, 333)])
@pytest.mark.parametrize("threshold", [0.85, 0.03, 0.0])
def test_masks_of_the_published_model_merge_as_published(size_px, threshold):
    """The golden masks are nearly equal, so softmax ties decide thousands of pixels."""
    case = np.load(GOLDEN / "detr_resnet50_panoptic.npz")
    masks = torch.from_numpy(case["pred_masks"][0])
    logits = torch.from_numpy(case["pred_logits"][0])[: len(masks)]
    categories = Categories(tuple(range(250)), (None,) * 250, frozenset(range(91, 250)))
    number, class_indices = reference(
        logits, masks, categories.stuff, (160, 224), size_px, threshold
    )
    segments = merged(logits, masks, categories, (160, 224), size_px, threshold)
    assert segments.classes.tolist() == class_indices
    assert np.array_equal(segments.ids.numpy(), number)


def test_an_image_without_detections_has_no_segments():
    logits = torch.full((3, CLASSES + 1), -9.0)
    logits[:, -1] = 9
    segments = merged(logits, torch.zeros(3, 4, 4), CATEGORIES, (16, 16), (20, 30), 0.0)
    assert len(segments) == 0
    assert segments.size_px == (20, 30)
    assert not segments.ids.any()
    assert segments.to_dicts() == []


def test_masks_of_the_same_stuff_class_are_joined_and_those_of_things_are_not():
    logits = torch.full((2, CLASSES + 1), -9.0)
    masks = torch.zeros(2, 8, 8)
    masks[0, :, :4], masks[1, :, 4:] = 5, 5
    for class_index, expected in ((1, 2), (7, 1)):
        found = logits.clone()
        found[:, class_index] = 9
        assert len(merged(found, masks, CATEGORIES, (32, 32), (32, 32), 0.85)) == expected


def test_sigmoid_scores_are_merged_by_the_threshold_alone():
    """There is no "no object" class."""
    logits = torch.full((1, 1, 2, CLASSES), -9.0)
    logits[..., 0, 3], logits[..., 1, 6] = 4, 5
    masks = torch.zeros(1, 2, 8, 8)
    masks[0, 0, :4], masks[0, 1, 4:] = 5, 5
    (segments,) = panoptic_segments(
        Predictions(logits, torch.rand(1, 1, 2, 4), masks), Focal(), CATEGORIES, (32, 32), [(8, 8)]
    )
    assert segments.classes.tolist() == [6, 3]
    assert segments.things.tolist() == [False, True]
    assert segments.ids[0].tolist() == [2] * 8
    assert segments.ids[7].tolist() == [1] * 8


def test_a_duplicate_thing_with_a_lower_score_is_dropped():
    """It takes no pixels, even with larger mask logits. Stuff may lose most of its pixels."""
    logits = torch.full((1, 1, 3, CLASSES), -9.0)
    logits[..., 0, 3], logits[..., 1, 2], logits[..., 2, 6] = 2, 0.5, 3
    masks = torch.full((1, 3, 8, 8), -9.0)
    masks[0, 0, 2:6, 2:6] = 3  # a thing, of score 0.88
    masks[0, 1, 2:6, 2:7] = 6  # the same, of score 0.62
    masks[0, 2, 2:6, 2:7] = 4  # stuff, whose pixels outside the thing are a fifth
    (segments,) = panoptic_segments(
        Predictions(logits, torch.rand(1, 1, 3, 4), masks), Focal(), CATEGORIES, (32, 32), [(8, 8)]
    )
    assert 2 not in segments.classes.tolist()
    assert segments.classes.tolist().count(6) == 1
    alone = torch.full((1, 1, 2, CLASSES), -9.0)
    alone[..., 0, 3], alone[..., 1, 2] = 2, 0.5
    (segments,) = panoptic_segments(
        Predictions(alone, torch.rand(1, 1, 2, 4), masks[:, :2]),
        Focal(),
        CATEGORIES,
        (32, 32),
        [(8, 8)],
    )
    assert segments.classes.tolist() == [3]


def test_segments_are_exported_as_coco_segments_info():
    """A segment without pixels has an empty box."""
    ids = torch.zeros(4, 6, dtype=torch.int32)
    ids[1:3, 2:5] = 1
    segments = Segments(ids, torch.tensor([3, 5]), torch.tensor([0.5, 1.0]), CATEGORIES)
    first, second = segments.to_dicts()
    assert first == {
        "id": 1,
        "category_id": 3,
        "category_name": "class 3",
        "isthing": 1,
        "score": 0.5,
        "area": 6,
        "bbox": [2, 1, 3, 2],
        "iscrowd": 0,
    }
    assert (second["isthing"], second["area"], second["bbox"]) == (0, 0, [0, 0, 0, 0])
    assert segments.area_px.tolist() == [6, 0]
    assert torch.equal(segments.masks().unpack()[0], ids == 1)


@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=50))
def test_colors_are_those_of_panoptic_pngs(ids):
    """Id = red + 256 green + 65536 blue."""
    drawn = torch.tensor([ids], dtype=torch.int32)
    colors = Segments(
        drawn, torch.zeros(0, dtype=torch.int64), torch.zeros(0), CATEGORIES
    ).to_pixels()
    assert (colors.astype(int) @ [1, 256, 256**2]).tolist() == [ids]
