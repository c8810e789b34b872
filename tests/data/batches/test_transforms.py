"""Sizes and augmentations are the published ones, and boxes stay on their objects."""

from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, Mask
from torchvision.tv_tensors import Image as TVImage

from setmatch.data.batches.transforms import (
    ColorJitter,
    RandomFlip,
    RandomResize,
    RandomSizeCrop,
    evaluation_px,
    mosaic_transform,
    preprocess,
    published,
    training_transform,
)
from setmatch.errors import ConfigError
from setmatch.ops.boxes import cxcywh_to_xyxy
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks

SMALL = Preprocessing(160, 267)


def test_preprocess_resizes_like_pillow_and_then_normalizes():
    """Within a gray level or two of the published Pillow transforms."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    smooth = Image.fromarray(pixels).resize((20, 15)).resize((80, 60))
    image = torch.from_numpy(np.asarray(smooth).copy()).permute(2, 0, 1)
    resized = np.asarray(smooth.resize((106, 80), Image.Resampling.BILINEAR), dtype=np.float32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (torch.from_numpy(resized / 255) - mean) / std
    preprocessed = preprocess(image, Preprocessing(80, 133))
    assert preprocessed.dtype == torch.float32
    assert (preprocessed - expected.permute(2, 0, 1)).abs().max() < 1.01 / 255 / 0.224


def run(augment: str, preprocessing: Preprocessing, size_px: tuple[int, int], seed: int):
    """Augment a black image with a white object; return pixels in 0..1, and the target."""
    height, width = size_px
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    top, left, bottom, right = height // 4, width // 3, height // 4 * 3, width // 3 * 2
    image[:, top:bottom, left:right] = 255
    cxcywh = torch.tensor(
        [
            [
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            ]
        ]
    )
    torch.manual_seed(seed)
    plain = Preprocessing(
        preprocessing.short_side_px, preprocessing.long_side_px, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    )
    masks = PackedMasks.pack(image[:1] == 255)
    return training_transform(augment, plain)(image, Target(torch.tensor([5]), cxcywh, masks))[:2]


@pytest.mark.parametrize("augment", ["detr", "small", "flip", "none"])
def test_boxes_stay_on_their_objects(augment: str):
    """After any augmentation, within a pixel."""
    seen = 0
    for seed in range(60):
        image, target = run(augment, SMALL, (120, 180), seed)
        white = image[0] > 0.35
        rows, columns = white.any(dim=1).nonzero(), white.any(dim=0).nonzero()
        if not len(target):
            assert not len(rows)
            continue
        seen += 1
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        height, width = image.shape[1:]
        found = cxcywh_to_xyxy(target.cxcywh)[0] * torch.tensor([width, height, width, height])
        assert (found - torch.tensor(box)).abs().max() < 1.6
        assert target.classes.tolist() == [5]
    assert seen >= 55


@pytest.mark.parametrize("augment", ["detr", "small", "none"])
def test_masks_stay_on_their_objects(augment: str):
    seen = 0
    for seed in range(30):
        image, target = run(augment, SMALL, (120, 180), seed)
        if not len(target):
            continue
        seen += 1
        (mask,) = target.masks.unpack()
        assert mask.shape == image.shape[1:]
        assert (mask != (image[0] > 0.35)).float().mean() < 0.02
    assert seen >= 28


@pytest.mark.parametrize("augment", ["detr", "small", "none"])
def test_masks_change_neither_image_nor_boxes_nor_random_numbers(augment: str):
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    boxes = torch.tensor([[0.5, 0.5, 0.6, 0.4], [0.2, 0.2, 0.1, 0.1]])
    masks = PackedMasks.pack(torch.ones(2, 50, 70, dtype=torch.bool))
    results = []
    for each in (None, masks):
        torch.manual_seed(3)
        transform = training_transform(augment, SMALL)
        results.append(transform(image, Target(torch.tensor([1, 2]), boxes, each))[:2])
    (plain, without), (pixels, with_masks) = results
    assert torch.equal(plain, pixels)
    assert torch.equal(without.cxcywh, with_masks.cxcywh)
    assert torch.equal(without.classes, with_masks.classes)
    assert without.masks is None
    assert len(with_masks.masks) == len(with_masks)


def test_an_object_without_visible_pixels_is_dropped_with_its_box():
    """Its box may still reach into the crop."""
    image = torch.zeros(3, 120, 180, dtype=torch.uint8)
    corner = torch.zeros(1, 120, 180, dtype=torch.bool)
    corner[:, :2, :2] = True
    target = Target(
        torch.tensor([0]), torch.tensor([[0.5, 0.5, 1.0, 1.0]]), PackedMasks.pack(corner)
    )
    kept = []
    for seed in range(40):
        torch.manual_seed(seed)
        _, after, _ = training_transform("detr", SMALL)(image, target)
        assert len(after.masks) == len(after.cxcywh) == len(after)
        assert after.masks.unpack().flatten(1).any(dim=1).all()
        kept.append(len(after))
    assert set(kept) == {0, 1}


def test_masks_annotated_on_a_larger_copy_fit_the_stored_image():
    masks = PackedMasks.pack(torch.ones(1, 80, 120, dtype=torch.bool))
    whole = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 1.0, 1.0]]), masks)
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    seen, after, _ = training_transform("none", SMALL)(image, whole)
    assert after.masks.unpack().shape == (1, *seen.shape[1:])


@settings(max_examples=60)
@given(
    augment=st.sampled_from(["detr", "small", "flip", "none"]),
    size_px=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    seed=st.integers(0, 2**32),
    corners=st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), max_size=5),
)
def test_boxes_stay_inside_and_keep_an_area(augment, size_px, seed, corners):
    """transformers #25592: whatever the shape and the objects, no box leaves the image."""
    xyxy = torch.tensor(corners).reshape(-1, 4)
    low, high = torch.minimum(xyxy[:, :2], xyxy[:, 2:]), torch.maximum(xyxy[:, :2], xyxy[:, 2:])
    target = Target(torch.arange(len(xyxy)), torch.cat([(low + high) / 2, high - low], dim=1))
    torch.manual_seed(seed)
    image = torch.zeros(3, *size_px, dtype=torch.uint8)
    seen, after, _ = training_transform(augment, SMALL)(image, target)
    assert seen.ndim == 3
    assert max(seen.shape) <= 2 * 267
    assert len(after.classes) == len(after.cxcywh)
    assert (after.cxcywh[:, 2:] > 0).all()
    corners_after = cxcywh_to_xyxy(after.cxcywh)
    assert ((corners_after > -1e-6) & (corners_after < 1 + 1e-6)).all()


def test_published_augmentation_draws_its_sizes():
    """Short sides are 480..800 in steps of 32, scaled; half of the images are cropped."""
    shapes = [run("detr", SMALL, (120, 160), seed)[0].shape for seed in range(150)]
    assert {min(shape[1:]) for shape in shapes if max(shape[1:]) < 260} <= set(range(90, 161))
    uncropped = sum(shape[2] == int(shape[1] * 4 / 3) for shape in shapes)
    assert 40 <= uncropped <= 110
    assert 96 in {min(shape[1:]) for shape in shapes}
    assert 160 in {min(shape[1:]) for shape in shapes}


def test_published_numbers_hold_at_the_published_size():
    _, choice = published(Preprocessing())
    resize, cropped = choice.transforms
    assert choice.p == [0.5, 0.5]
    assert resize == RandomResize((480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800), 1333)
    before, crop, after = cropped.transforms
    assert before.short_sides_px == (400, 500, 600)
    assert crop == RandomSizeCrop(384, 600)
    assert after == resize


@pytest.mark.parametrize("augment", ["small", "flip", "none"])
def test_without_multi_scale_sizes_are_those_of_evaluation(augment: str):
    """Equal shapes need no padding in a batch."""
    shapes = {run(augment, SMALL, (121, 183), seed)[0].shape for seed in range(20)}
    assert shapes == {(3, *evaluation_px((121, 183), SMALL))}


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_color_jitter_equals_torchvisions_three_passes(seed: int):
    """If nothing is clipped."""
    torch.manual_seed(seed)
    image = TVImage(torch.randint(90, 130, (3, 9, 7), dtype=torch.uint8))
    boxes = BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(9, 7))
    state = torch.get_rng_state()
    jittered, same = ColorJitter(0.3)(image, boxes)
    torch.set_rng_state(state)
    brightness, contrast, saturation = torch.empty(3).uniform_(0.7, 1.3).tolist()
    expected = F.adjust_contrast(F.adjust_brightness(image / 255, brightness), contrast)
    expected = 255 * F.adjust_saturation(expected, saturation)
    assert (jittered - expected).abs().max() <= 1.01  # fractions are truncated
    assert jittered.dtype == torch.uint8
    assert same is boxes


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(ConfigError, match="detr, small, flip, none"):
        training_transform("cutmix", SMALL)


@pytest.mark.parametrize("augment", ["detr", "small", "flip", "none"])
def test_the_augmentation_can_be_pickled_for_spawned_workers(augment: str):
    ForkingPickler.dumps(training_transform(augment, Preprocessing(64, 96)))


@pytest.mark.parametrize("augment", ["detr", "small", "flip", "none"])
def test_clipped_and_dropped_objects_are_counted(augment: str):
    image = torch.zeros(3, 60, 90, dtype=torch.uint8)
    corners = torch.tensor([[0.05, 0.05], [0.95, 0.05], [0.05, 0.95], [0.95, 0.95], [0.5, 0.5]])
    boxes = torch.cat([corners, torch.full((5, 2), 0.1)], dim=1)
    transform = training_transform(augment, SMALL)
    counts = []
    for seed in range(60):
        torch.manual_seed(seed)
        _, after, clipped = transform(image, Target(torch.arange(5), boxes))
        low, high = (after.cxcywh[:, :2] + side * after.cxcywh[:, 2:] / 2 for side in (-1, 1))
        at_edge = ((low < 1e-5) | (high > 1 - 1e-5)).any(dim=1)
        assert clipped <= at_edge.sum()
        # The box in the middle keeps its shape unless it was cut; so does each of the others.
        counts.append((len(after), clipped))
    lost = any(kept < 5 for kept, _ in counts), any(clipped for _, clipped in counts)
    assert lost == ((augment in ("detr", "small"),) * 2)


def test_flips_are_those_of_torchvision():
    """The same images are mirrored, with their boxes and masks, by the same random numbers."""
    image = TVImage(torch.randint(0, 256, (3, 6, 9), dtype=torch.uint8))
    boxes = BoundingBoxes([[1.0, 2, 5, 6]], format="XYXY", canvas_size=(6, 9))
    mask = Mask(torch.randint(0, 2, (1, 6, 9), dtype=torch.uint8))
    outcomes = set()
    for seed in range(10):
        scenes = []
        for flip in (RandomFlip(), v2.RandomHorizontalFlip(0.5)):
            torch.manual_seed(seed)
            scenes.append([*flip(image, boxes, mask), torch.rand(1)])
        ours, theirs = scenes
        assert all(map(torch.equal, ours, theirs))
        outcomes.add(torch.equal(ours[0], image))
    assert outcomes == {True, False}


@pytest.mark.parametrize("augment", ["ssd", "ssd_any_size"])
def test_ssd_keeps_boxes_on_their_objects(augment: str):
    """A white object on black: colors change it, but what is around stays darker."""
    short_sides, kept = set(), 0
    for seed in range(40):
        pixels, target = run(augment, SMALL, (90, 120), seed)
        height, width = pixels.shape[1:]
        short_sides.add(min(height, width))
        if not len(target):
            continue
        kept += 1
        left, top, right, bottom = (
            cxcywh_to_xyxy(target.cxcywh)[0] * torch.tensor([width, height, width, height])
        ).tolist()
        box = torch.zeros(height, width, dtype=torch.bool)
        box[round(top) : round(bottom), round(left) : round(right)] = True
        assert pixels[:, box].mean() > 0.3
        if (~box).sum() > 100:
            assert pixels[:, ~box].mean() < 0.5 * pixels[:, box].mean()
    assert kept > 30
    assert (max(short_sides) > 170) == (augment == "ssd_any_size")
    assert (max(short_sides) <= 160) == (augment == "ssd")


@pytest.mark.parametrize("augment", ["ssd", "ssd_any_size"])
def test_ssd_takes_images_without_objects(augment: str):
    nothing = Target(torch.empty(0, dtype=torch.int64), torch.empty(0, 4))
    image = torch.full((3, 60, 80), 9, dtype=torch.uint8)
    for seed in range(20):
        torch.manual_seed(seed)
        _, target, clipped = training_transform(augment, SMALL)(image, nothing)
        assert len(target) == clipped == 0


@pytest.mark.parametrize("augment", ["ssd", "ssd_any_size", "small", "none"])
def test_mosaics_are_neither_zoomed_nor_cropped_by_ssd(augment: str):
    """A gray image stays gray to its edges, and in its proportions; other augmentations stay."""
    whole = Target(torch.tensor([0]), torch.tensor([[0.5, 0.5, 1.0, 1.0]]))
    image = torch.full((3, 90, 120), 128, dtype=torch.uint8)
    differ = 0
    for seed in range(12):
        torch.manual_seed(seed)
        pixels, target, clipped = mosaic_transform(augment, SMALL)(image, whole)
        torch.manual_seed(seed)
        usual, _, _ = training_transform(augment, SMALL)(image, whole)
        if augment.startswith("ssd"):
            height, width = pixels.shape[1:]
            assert width == pytest.approx(4 / 3 * height, abs=1)
            assert pixels.flatten(1).std(1).max() < 1e-2
            assert clipped == 0
            assert target.cxcywh.tolist() == whole.cxcywh.tolist()
            differ += usual.shape != pixels.shape or not torch.equal(usual, pixels)
        else:
            assert torch.equal(usual, pixels)
    assert (differ > 6) == augment.startswith("ssd")
