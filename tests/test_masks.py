"""Packed masks hold every pixel, in an eighth of the memory."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from setmatch.masks import PackedMasks


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


def test_chosen_masks_stay_packed():
    """Only the matched objects need to be unpacked."""
    masks = torch.rand(4, 6, 10) < 0.5
    chosen = torch.tensor([2, 0])
    assert torch.equal(PackedMasks.pack(masks)[chosen].unpack(), masks[chosen])
