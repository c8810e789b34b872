"""Tiles for training: pixels, boxes and masks where they belong, drawn as prediction shows them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from setmatch.data.batches.random_tile import (
    AROUND_OBJECT,
    LEAST_VISIBLE,
    WHOLE,
    RandomTile,
    cut_tile,
)
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks

HEIGHT, WIDTH = 60, 90
SHOWN = Preprocessing(30, 45)  # whole images at half their size


def image_of(boxes: list[tuple[int, int, int, int]], masks: bool = False):
    """An image whose pixels tell their place, with objects of these corners (x0, y0, x1, y1)."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    pixels = torch.stack([y, x, torch.zeros_like(x)]).to(torch.uint8)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    sides = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    low, high = corners[:, :2] / sides, corners[:, 2:] / sides
    planes = torch.zeros(len(boxes), HEIGHT, WIDTH, dtype=torch.bool)
    for plane, (x0, y0, x1, y1) in zip(planes, boxes, strict=True):
        plane[y0:y1, x0:x1] = True
    packed = PackedMasks.pack(planes) if masks else None
    cxcywh = torch.cat([(low + high) / 2, high - low], dim=1)
    return pixels, Target(torch.arange(len(boxes)), cxcywh, packed)


def corners_px(target: Target, size_px: tuple[int, int]) -> list[list[int]]:
    sides = torch.tensor([size_px[1], size_px[0]] * 2)
    low = target.cxcywh[:, :2] - target.cxcywh[:, 2:] / 2
    return ((torch.cat([low, low + target.cxcywh[:, 2:]], 1)) * sides).round().int().tolist()


def test_a_tile_by_hand():
    """Of 20 pixels, from (y, x) = (10, 30): one object inside, two cut, one beside it."""
    boxes = [(32, 12, 40, 20), (24, 10, 34, 20), (28, 10, 38, 20), (0, 0, 30, 60)]
    pixels, target = cut_tile(image_of(boxes), (10, 30), (20, 20))
    assert pixels.shape == (3, 20, 20)
    assert pixels[:2, 0, 0].tolist() == [10, 30]
    assert target.classes.tolist() == [0, 1, 2]  # 4 of 10 columns are enough
    expected = [[2, 2, 10, 10], [0, 0, 4, 10], [0, 0, 8, 10]]
    assert corners_px(target, (20, 20)) == expected


box = st.tuples(
    st.integers(0, WIDTH - 2),
    st.integers(0, HEIGHT - 2),
    st.integers(1, WIDTH),
    st.integers(1, HEIGHT),
).map(lambda b: (b[0], b[1], min(b[0] + b[2], WIDTH), min(b[1] + b[3], HEIGHT)))


@settings(max_examples=40)
@given(st.lists(box, max_size=5), st.integers(1, HEIGHT), st.integers(1, WIDTH), st.data())
def test_boxes_are_kept_by_their_visible_area(boxes, tall: int, wide: int, data: st.DataObject):
    """Counted in pixels of masks, which are cut as their boxes are."""
    top = data.draw(st.integers(0, HEIGHT - tall))
    left = data.draw(st.integers(0, WIDTH - wide))
    image = image_of(boxes, masks=True)
    pixels, target = cut_tile(image, (top, left), (tall, wide))
    assert torch.equal(pixels, image[0][:, top : top + tall, left : left + wide])
    whole = image[1].masks.unpack()
    cut = whole[:, top : top + tall, left : left + wide]
    visible, area = cut.sum((1, 2)), whole.sum((1, 2))
    sure = (visible - LEAST_VISIBLE * area).abs() > 1e-3 * area  # rounding may decide the others
    kept = torch.isin(torch.arange(len(boxes)), target.classes)
    assert torch.equal(kept[sure], ((visible >= LEAST_VISIBLE * area) & (visible > 0))[sure])
    assert torch.equal(target.masks.unpack(), cut[kept])
    for mask, (x0, y0, x1, y1) in zip(cut[kept], corners_px(target, (tall, wide)), strict=True):
        assert mask.sum() == mask[y0:y1, x0:x1].sum() == (y1 - y0) * (x1 - x0)


def test_masks_of_images_that_are_stored_smaller():
    """Masks have the annotated size; the tile is one of the stored image."""
    pixels, target = image_of([(20, 20, 60, 40)], masks=True)
    small = pixels[:, ::2, ::2]
    _, cut = cut_tile((small, target), (5, 10), (10, 20))
    expected = torch.zeros(10, 20, dtype=torch.bool)
    expected[5:, :] = True
    assert torch.equal(cut.masks.unpack()[0], expected)


def test_specks_are_targets_in_tiles_alone(monkeypatch):
    """At half the size, 32 pixels are enough; a long side counts by the area."""
    monkeypatch.setattr("setmatch.data.batches.random_tile.WHOLE", 1.0)
    image = image_of([(0, 0, 31, 31), (9, 9, 41, 41), (40, 0, 60, 40), (0, 0, 66, 16)], masks=True)
    pixels, target = RandomTile(40, SHOWN)(image)
    assert pixels is image[0]
    assert target.classes.tolist() == [1, 3]
    assert torch.equal(target.masks.bits, image[1].masks.bits[[1, 3]])
    assert RandomTile(90, SHOWN)(image)[1] is image[1]  # never in tiles
    monkeypatch.setattr("setmatch.data.batches.random_tile.WHOLE", 0.0)
    found = {c for _ in range(30) for c in RandomTile(40, SHOWN)(image)[1].classes.tolist()}
    assert found == {0, 1, 2, 3}


@pytest.mark.parametrize("side_px", [WIDTH, WIDTH + 1])
def test_an_image_that_is_no_larger_than_a_tile_stays_whole(side_px: int):
    image, before = image_of([(1, 1, 9, 9)]), torch.get_rng_state()
    assert RandomTile(side_px, SHOWN)(image) is image
    assert torch.equal(before, torch.get_rng_state())


def test_tiles_show_what_prediction_sees():
    """Whole images, tiles around objects, cut objects and empty tiles, all of them; no others."""
    torch.manual_seed(0)
    image = image_of([(40, 30, 48, 38)])
    seen = [RandomTile(24, SHOWN)(image) for _ in range(600)]
    tiles = [each for each in seen if each[0].shape != image[0].shape]
    assert len(tiles) / len(seen) == pytest.approx(1 - WHOLE, abs=0.06)
    assert {tuple(pixels.shape) for pixels, _ in tiles} == {(3, 24, 24)}
    whole = sum((t.cxcywh[:, 2:] * 24 > 7.9).all(1).sum().item() for _, t in tiles) / len(tiles)
    by_chance = (17 * 17) / (37 * 67)  # of all tiles show it whole
    expected = AROUND_OBJECT + (1 - AROUND_OBJECT) * by_chance
    assert whole == pytest.approx(expected, abs=0.06)
    empty = [pixels for pixels, target in tiles if not len(target)]
    assert len(empty) / len(tiles) > 0.1
    corners = np.array([pixels[:2, 0, 0].tolist() for pixels in empty])
    assert corners.min(axis=0).tolist() < [3, 3]  # from anywhere
    assert (corners.max(axis=0) > [33, 60]).all()
    cut = [t for _, t in tiles if len(t) and (t.cxcywh[:, 2:] * 24 < 7.5).any()]
    assert cut


@pytest.mark.parametrize(
    ("shown", "least"),
    [((0, 0, 5, 5), 1.0), ((85, 55, 90, 60), 1.0), ((10, 0, 80, 60), 0.1), ((3, 3, 33, 30), 0.7)],
)
def test_a_drawn_object_is_shown_as_far_as_it_fits(shown, least: float, monkeypatch):
    """At corners, larger than the tile, and nearly as large."""
    monkeypatch.setattr("setmatch.data.batches.random_tile.WHOLE", 0.0)
    monkeypatch.setattr("setmatch.data.batches.random_tile.AROUND_OBJECT", 1.0)
    image = image_of([shown], masks=True)
    x0, y0, x1, y1 = shown
    most = min(x1 - x0, 26) * min(y1 - y0, 26)
    assert most / ((x1 - x0) * (y1 - y0)) >= least
    for seed in range(20):
        torch.manual_seed(seed)
        pixels, _ = RandomTile(26, SHOWN)(image)
        top, left = pixels[:2, 0, 0].tolist()
        part = image[1].masks.unpack()[0, top : top + 26, left : left + 26]
        assert part.sum() == most


@pytest.mark.parametrize("boxes", [[], [(0, 0, 90, 60)]])
def test_images_without_objects_have_tiles_too(boxes):
    torch.manual_seed(1)
    shapes = {tuple(RandomTile(30, SHOWN)(image_of(boxes))[0].shape) for _ in range(40)}
    assert shapes == {(3, 30, 30), (3, HEIGHT, WIDTH)}


def test_a_narrow_image_is_cut_along_its_length():
    torch.manual_seed(2)
    shapes = {tuple(RandomTile(80, SHOWN)(image_of([]))[0].shape) for _ in range(20)}
    assert shapes == {(3, HEIGHT, 80), (3, HEIGHT, WIDTH)}


def test_what_is_cut_is_not_changed_in_place():
    image = image_of([(1, 1, 30, 30)], masks=True)
    before = image[0].clone(), image[1].cxcywh.clone(), image[1].masks.bits.clone()
    cut_tile(image, (5, 5), (20, 20))
    after = image[0], image[1].cxcywh, image[1].masks.bits
    assert all(map(torch.equal, before, after))
