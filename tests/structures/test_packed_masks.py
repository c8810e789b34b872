"""Packed masks hold every pixel, in an eighth of the memory."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.structures.packed_masks import PackedMasks, pad_to_batch


@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_packing_loses_no_pixel(count: int, height: int, width: int, seed: int):
    """What comes out is what went in, whatever the width leaves over of the last byte."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, height, width, generator=generator) < 0.5
    packed = PackedMasks.pack(masks)
    assert torch.equal(packed.unpack(), masks)
    assert len(packed) == count
    assert packed.bits.numel() == count * height * -(-width // 8)


def test_the_bits_are_numpys():
    """A reader may pack with numpy, which is faster on its own arrays."""
    masks = torch.rand(3, 5, 21) < 0.5
    assert np.array_equal(PackedMasks.pack(masks).bits.numpy(), np.packbits(masks.numpy(), axis=-1))


@given(st.integers(0, 20), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_planes_hold_every_pixel(count: int, height: int, width: int, seed: int):
    """Packed, spread into planes and packed again they are the same masks."""
    generator = torch.Generator().manual_seed(seed)
    packed = PackedMasks.pack(torch.rand(count, height, width, generator=generator) < 0.5)
    planes = packed.planes()
    assert planes.shape == (-(-count // 8), height, width)
    again = PackedMasks.from_planes(planes, count)
    assert torch.equal(again.bits, packed.bits)
    assert again.width_px == width


def test_objects_without_a_pixel_are_told_without_unpacking():
    """Nothing is nothing, even in an image without pixels."""
    masks = torch.zeros(3, 5, 21, dtype=torch.bool)
    masks[1, 4, 20] = True
    assert PackedMasks.pack(masks).any().tolist() == [False, True, False]
    assert PackedMasks.pack(masks[:0]).any().tolist() == []
    assert PackedMasks.pack(masks[:, :0]).any().tolist() == [False] * 3


def test_chosen_masks_stay_packed():
    """Only the matched objects need to be unpacked."""
    masks = torch.rand(4, 6, 10) < 0.5
    chosen = torch.tensor([2, 0])
    assert torch.equal(PackedMasks.pack(masks)[chosen].unpack(), masks[chosen])


def test_masks_of_several_images_lie_on_one_canvas():
    """Each at the top left; an image without objects still counts for the size."""
    small, wide = torch.rand(2, 6, 10) < 0.5, torch.rand(1, 4, 21) < 0.5
    nothing = torch.zeros(0, 9, 3, dtype=torch.bool)
    joined = pad_to_batch([PackedMasks.pack(masks) for masks in (small, nothing, wide)])
    canvas = torch.zeros(3, 9, 21, dtype=torch.bool)
    canvas[:2, :6, :10] = small
    canvas[2:, :4] = wide
    assert torch.equal(joined.unpack(), canvas)
