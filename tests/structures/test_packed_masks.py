"""Packed masks keep every pixel in an eighth of the memory."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.structures.packed_masks import PackedMasks, pad_to_batch


@given(st.integers(0, 4), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_pack_and_unpack_are_inverse(count: int, height: int, width: int, seed: int):
    """For widths that do not fill the last byte, too."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(count, height, width, generator=generator) < 0.5
    packed = PackedMasks.pack(masks)
    assert torch.equal(packed.unpack(), masks)
    assert len(packed) == count
    assert packed.bits.numel() == count * height * -(-width // 8)


def test_bits_have_the_order_of_numpy_packbits():
    masks = torch.rand(3, 5, 21) < 0.5
    assert np.array_equal(PackedMasks.pack(masks).bits.numpy(), np.packbits(masks.numpy(), axis=-1))


@given(st.integers(0, 20), st.integers(1, 9), st.integers(1, 40), st.integers(0, 9))
def test_planes_and_from_planes_are_inverse(count: int, height: int, width: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    packed = PackedMasks.pack(torch.rand(count, height, width, generator=generator) < 0.5)
    planes = packed.planes()
    assert planes.shape == (-(-count // 8), height, width)
    again = PackedMasks.from_planes(planes, count)
    assert torch.equal(again.bits, packed.bits)
    assert again.width_px == width


def test_any_finds_objects_without_pixels():
    """Even in an image without pixels."""
    masks = torch.zeros(3, 5, 21, dtype=torch.bool)
    masks[1, 4, 20] = True
    assert PackedMasks.pack(masks).any().tolist() == [False, True, False]
    assert PackedMasks.pack(masks[:0]).any().tolist() == []
    assert PackedMasks.pack(masks[:, :0]).any().tolist() == [False] * 3


def test_indexing_returns_packed_masks():
    masks = torch.rand(4, 6, 10) < 0.5
    chosen = torch.tensor([2, 0])
    assert torch.equal(PackedMasks.pack(masks)[chosen].unpack(), masks[chosen])


def test_masks_of_several_images_are_padded_to_one_size():
    """An image without objects counts for the size, too."""
    small, wide = torch.rand(2, 6, 10) < 0.5, torch.rand(1, 4, 21) < 0.5
    nothing = torch.zeros(0, 9, 3, dtype=torch.bool)
    joined = pad_to_batch([PackedMasks.pack(masks) for masks in (small, nothing, wide)])
    canvas = torch.zeros(3, 9, 21, dtype=torch.bool)
    canvas[:2, :6, :10] = small
    canvas[2:, :4] = wide
    assert torch.equal(joined.unpack(), canvas)
