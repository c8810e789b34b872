"""Mosaic and mixup: pixels and boxes where they belong, the same on any number of processes."""

import pytest
import torch

from setmatch.data.batches.combine_images import GRAY, Combination, make_mixup, make_mosaic
from setmatch.structures.batch import Target


def _image(value: int, height: int, width: int, class_index: int = 0):
    """One color, with one object: the left half."""
    pixels = torch.full((3, height, width), value, dtype=torch.uint8)
    return pixels, Target(torch.tensor([class_index]), torch.tensor([[0.25, 0.5, 0.5, 1.0]]))


def test_a_mosaic_by_hand():
    """On a canvas of 8x12: a quarter is 4x6, and each image touches the center."""
    images = [_image(10, 8, 12, 0), _image(20, 8, 4, 1), _image(30, 2, 12, 2), _image(40, 4, 6, 3)]
    pixels, target = make_mosaic(images)
    expected = torch.full((8, 12), GRAY)
    expected[0:4, 0:6] = 10
    expected[0:4, 6:8] = 20  # 8x4 becomes 4x2
    expected[4:5, 0:6] = 30  # 2x12 becomes 1x6
    expected[4:8, 6:12] = 40
    assert torch.equal(pixels, expected.to(torch.uint8).expand(3, -1, -1))
    assert target.classes.tolist() == [0, 1, 2, 3]
    sides = torch.tensor([12.0, 8.0, 12.0, 8.0])
    by_hand = [[1.5, 2, 3, 4], [6.5, 2, 1, 4], [1.5, 4.5, 3, 1], [7.5, 6, 3, 4]]
    assert torch.allclose(target.cxcywh * sides, torch.tensor(by_hand))


def test_a_mosaic_of_odd_sides_covers_the_canvas():
    pixels, _ = make_mosaic([_image(value, 7, 9) for value in (1, 2, 3, 4)])
    assert pixels.shape == (3, 7, 9)
    assert set(pixels.unique().tolist()) <= {1, 2, 3, 4, GRAY}


def test_a_quarter_without_an_image_stays_gray():
    pixels, target = make_mosaic([_image(1, 8, 8), None, _image(2, 8, 8), None])
    assert pixels[0, :, 4:].unique().tolist() == [GRAY]
    assert len(target) == 2


@pytest.mark.parametrize("size_px", [(1, 1), (1, 9), (9, 1)])
def test_an_image_of_one_row_stays_alone(size_px):
    first = _image(7, *size_px)
    assert make_mosaic([first, *[_image(1, 8, 8)] * 3]) is first


def test_a_mixup_by_hand():
    """8x12 and 4x4: the second covers 8x8 at the left."""
    pixels, target = make_mixup(_image(100, 8, 12), _image(200, 4, 4, 1), 0.45)
    assert pixels[:, :, :8].unique().tolist() == [155]
    assert pixels[:, :, 8:].unique().tolist() == [100]
    assert target.classes.tolist() == [0, 1]
    by_hand = torch.tensor([[3.0, 4, 6, 8], [2, 4, 4, 8]])
    assert torch.allclose(target.cxcywh * torch.tensor([12.0, 8, 12, 8]), by_hand)


def test_what_is_combined_is_not_changed_in_place():
    images = [_image(value, 8, 8) for value in (1, 2, 3, 4)]
    before = [pixels.clone() for pixels, _ in images]
    make_mixup(images[0], images[1], 0.5)
    make_mosaic(images)
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, images, strict=True))


def test_without_a_probability_nothing_is_drawn():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    image = _image(1, 4, 4)
    assert Combination(0.0, 0.0, 5, lambda _: None)(image) is image
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("mosaic", "mixup", "most"), [(1.0, 0.0, 4), (0.0, 1.0, 2), (1.0, 1.0, 5)])
def test_combined_images_have_the_targets_of_all(mosaic, mixup, most):
    torch.manual_seed(1)
    combine = Combination(mosaic, mixup, 3, lambda _: _image(9, 6, 6))
    _, target = combine(_image(1, 8, 8))
    assert len(target) == most
