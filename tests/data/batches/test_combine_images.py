"""Mosaic, mixup and copies: pixels and boxes where they belong, on any number of processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes

from setmatch.data.batches.combine_images import (
    Combination,
    copy_objects,
    make_mixup,
    make_mosaic,
    move_image,
)
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.structures.batch import Target


def _image(value: int, height: int, width: int, class_index: int = 0):
    """One color, with one object: the left half."""
    pixels = torch.full((3, height, width), value, dtype=torch.uint8)
    return pixels, Target(torch.tensor([class_index]), torch.tensor([[0.25, 0.5, 0.5, 1.0]]))


def test_a_mosaic_by_hand():
    """On a canvas of 8x12: a quarter is 4x6, and each image touches the center."""
    images = [_image(10, 8, 12, 0), _image(20, 8, 4, 1), _image(30, 2, 12, 2), _image(40, 4, 6, 3)]
    pixels, target = make_mosaic(images)
    expected = torch.zeros(8, 12)
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
    assert set(pixels.unique().tolist()) <= {0, 1, 2, 3, 4}


def test_a_quarter_without_an_image_stays_black():
    pixels, target = make_mosaic([_image(1, 8, 8), None, _image(2, 8, 8), None])
    assert pixels[0, :, 4:].unique().tolist() == [0]
    assert len(target) == 2


@pytest.mark.parametrize("size_px", [(1, 1), (1, 9), (9, 1)])
def test_an_image_of_one_row_stays_alone(size_px):
    first = _image(7, *size_px)
    assert make_mosaic([first, *[_image(1, 8, 8)] * 3]) is first


def test_an_image_is_moved_by_hand():
    """A square of 40: an object of 10x20 px whose upper left corner is at (5, 10)."""
    pixels = torch.zeros(3, 40, 40, dtype=torch.uint8)
    pixels[:, 10:30, 5:15] = 200
    sides = torch.tensor([40.0, 40, 40, 40])
    image = pixels, Target(torch.tensor([3]), torch.tensor([[10.0, 20, 10, 20]]) / sides)
    expected = {  # turned clockwise about (20, 20), scaled, shifted
        (0.0, (0.1, -0.05), 1.0): (14, 18, 10, 20),
        (90.0, (0.0, 0.0), 1.0): (20, 10, 20, 10),
        (0.0, (0.0, 0.0), 0.5): (15, 20, 5, 10),
        (0.0, (-0.125, 0.0), 1.5): (3.75, 20, 7.5, 30),  # cut off at the left
    }
    for (degrees, shift, scale), box in expected.items():
        moved, target = move_image(image, degrees, shift, scale)
        assert (target.cxcywh * sides)[0].tolist() == pytest.approx(box, abs=1e-3)
        x, y, wide, tall = box
        inside = moved[0, round(y - tall / 2) : round(y + tall / 2)]
        assert inside[:, round(x - wide / 2) : round(x + wide / 2)].float().mean() > 160
        assert moved.float().sum() / 200 / 3 == pytest.approx(wide * tall, rel=0.15)
    assert len(move_image(image, 0.0, (-0.9, 0.0), 1.0)[1]) == 0


@given(
    size_px=st.tuples(st.integers(2, 70), st.integers(2, 70)),
    degrees=st.floats(-180, 180),
    shift=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    scale=st.floats(0.5, 1.5),
    seed=st.integers(0, 99),
)
def test_boxes_move_as_torchvision_moves_them(size_px, degrees, shift, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(5, 2, 2, generator=generator)
    xyxy = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    sides = torch.tensor(size_px[::-1]).repeat(2)
    boxes = BoundingBoxes(xyxy * sides, format="XYXY", canvas_size=size_px, clamping_mode=None)
    shift_px = [round(a * b) for a, b in zip(shift, size_px[::-1], strict=True)]
    expected = F.affine(boxes, degrees, shift_px, scale, [0.0, 0.0]).as_subclass(torch.Tensor)
    expected = (expected / sides).clamp(0, 1)
    kept = (expected[:, 2:] > expected[:, :2]).all(1)
    image = torch.zeros(3, *size_px, dtype=torch.uint8)
    target = Target(torch.arange(5), xyxy_to_cxcywh(xyxy))
    pixels, moved = move_image((image, target), degrees, shift, scale)
    assert pixels.shape == image.shape
    clear = (expected[:, 2:] - expected[:, :2]).amin(1) > 1e-4  # rounding decides the others
    assert set(torch.arange(5)[kept & clear].tolist()) <= set(moved.classes.tolist())
    for number, box in zip(moved.classes.tolist(), moved.cxcywh, strict=True):
        assert cxcywh_to_xyxy(box) == pytest.approx(expected[number], abs=1e-3)


def test_a_mosaic_is_moved_at_random():
    torch.manual_seed(0)
    combine = Combination(1.0, 0.0, 0.0, 3, lambda _: _image(200, 60, 60))
    made = [combine(_image(200, 60, 60)).image for _ in range(60)]
    covered = torch.tensor([float((pixels > 0).float().mean()) for pixels, _ in made])
    assert covered.amin() < 0.4  # at half of the size
    assert covered.amax() > 0.99
    sides = torch.cat([target.cxcywh[:, 2:] for _, target in made])
    assert len(sides) > 150
    assert not torch.equal(*covered[:2])


def test_a_mixup_by_hand():
    """8x12 and 4x4: the second covers 8x8 at the left."""
    pixels, target = make_mixup(_image(100, 8, 12), _image(200, 4, 4, 1), 0.45)
    assert pixels[:, :, :8].unique().tolist() == [155]
    assert pixels[:, :, 8:].unique().tolist() == [100]
    assert target.classes.tolist() == [0, 1]
    by_hand = torch.tensor([[3.0, 4, 6, 8], [2, 4, 4, 8]])
    assert torch.allclose(target.cxcywh * torch.tensor([12.0, 8, 12, 8]), by_hand)


def test_what_is_combined_is_not_changed_in_place():
    images = [_image(value, 20, 20) for value in (1, 2, 3, 4)]
    before = [pixels.clone() for pixels, _ in images]
    make_mixup(images[0], images[1], 0.5)
    make_mosaic(images)
    copy_objects(images[0], images[1:], 0.5)
    assert all(torch.equal(a, b) for a, (b, _) in zip(before, images, strict=True))


def test_without_a_probability_nothing_is_drawn():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    image = _image(1, 4, 4)
    assert Combination(0.0, 0.0, 0.0, 5, lambda _: None)(image).image is image
    assert torch.equal(state, torch.get_rng_state())


@given(
    canvas_px=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    corners=st.tuples(
        st.integers(0, 8), st.integers(0, 8), st.integers(18, 20), st.integers(18, 20)
    ),
    seed=st.integers(0, 99),
)
def test_a_copied_object_lies_in_its_box(canvas_px, corners, seed):
    """Each pixel of the other image says where it was; the box moves as its pixels do."""
    torch.manual_seed(seed)
    height, width = canvas_px
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    other = torch.stack([rows, columns, torch.full_like(rows, 7)]).to(torch.uint8)
    x0, y0, x1, y1 = corners
    box = torch.tensor([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]])
    sides = torch.tensor([width, height, width, height])
    canvas = torch.full((3, height, width), 99, dtype=torch.uint8)
    empty = Target(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    pixels, target = copy_objects(
        (canvas, empty), [(other, Target(torch.tensor([5]), box / sides))], weight=0.0
    )
    assert target.classes.tolist() == [5]
    x, y, wide, tall = (target.cxcywh[0] * sides).tolist()
    assert (wide, tall) == pytest.approx((x1 - x0, y1 - y0))
    left, top = round(x - wide / 2), round(y - tall / 2)
    changed = pixels[2] == 7
    inside = changed.nonzero()
    (first_y, first_x), (last_y, last_x) = inside.amin(0).tolist(), inside.amax(0).tolist()
    assert changed.sum() == (last_y + 1 - first_y) * (last_x + 1 - first_x)
    assert (pixels[0] - rows)[changed].unique().tolist() == [y0 - top]
    assert (pixels[1] - columns)[changed].unique().tolist() == [x0 - left]
    assert first_x <= left <= last_x + 1 - (x1 - x0)
    assert first_y <= top <= last_y + 1 - (y1 - y0)
    for length, room in ((x1 - x0, last_x + 1 - first_x), (y1 - y0, last_y + 1 - first_y)):
        assert length <= room <= length + 2 * int(0.25 * length)
    assert (pixels[:, ~changed] == 99).all()


def test_a_copy_is_as_transparent_as_its_weight_says():
    torch.manual_seed(0)
    pixels, target = copy_objects(_image(100, 40, 40), [_image(200, 40, 40, 1)] * 2, 0.45)
    assert pixels.unique().tolist() == [100, 155, 180]  # 155 where it is copied once
    assert target.classes.tolist() == [0, 1, 1]


@pytest.mark.parametrize("other", [None, _image(9, 19, 10)])
def test_nothing_is_copied_from_images_without_large_objects(other):
    """5x19 pixels are below 100."""
    first = _image(1, 19, 10)
    pixels, target = copy_objects(first, [other] * 3, 0.5)
    assert torch.equal(pixels, first[0])
    assert len(target) == 1


@pytest.mark.parametrize(
    ("mosaic", "mixup", "copies", "most"),
    [
        (1.0, 0.0, 0.0, 4),
        (0.0, 1.0, 0.0, 2),
        (1.0, 1.0, 0.0, 5),
        (0.0, 0.0, 1.0, 4),
        (1.0, 0.0, 1.0, 7),
        (0.0, 1.0, 1.0, 2),  # copies are made where nothing is mixed
    ],
)
def test_combined_images_have_the_targets_of_all(mosaic, mixup, copies, most):
    torch.manual_seed(1)
    combine = Combination(mosaic, mixup, copies, 3, lambda _: _image(9, 20, 20))
    (_, target), is_mosaic = combine(_image(1, 24, 24))
    assert len(target) == most
    assert is_mosaic == (mosaic > 0)
