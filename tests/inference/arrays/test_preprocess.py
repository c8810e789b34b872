"""An image becomes the same input without torch as with it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resize_image

from setmatch.data.batches import transforms
from setmatch.inference.arrays.preprocess import preprocess
from setmatch.inference.arrays.resize import resize
from setmatch.structures.metadata import Preprocessing

# On other processors, PyTorch resizes in floating point, and some pixels differ by a level.
MOST_LEVELS = 0 if torch.backends.cpu.get_cpu_capability().startswith("AVX") else 1
SIDES = st.integers(1, 200)
# An image: (height, width), the number of a random one, and how far its levels are apart.
IMAGES = st.tuples(
    st.tuples(SIDES, SIDES) | st.tuples(st.integers(1, 9), st.integers(1000, 4000)),
    st.integers(0, 99),
    st.sampled_from([1, 51, 255]),
)


def image_of(size_px: tuple[int, int], seed: int, step: int) -> np.ndarray:
    levels = np.random.default_rng(seed).integers(0, 256, (*size_px, 3)) // step * step
    return levels.astype(np.uint8)


@given(IMAGES, st.tuples(SIDES, st.integers(200, 300), st.none() | st.tuples(SIDES, SIDES)))
def test_the_input_of_the_network_is_that_of_torchvision(image, sizes):
    """To the last bit, for images larger and smaller, any aspect ratio and any contrast."""
    pixels, preprocessing = image_of(*image), Preprocessing(*sizes[:2], size_px=sizes[2])
    expected = transforms.preprocess(torch.from_numpy(pixels).permute(2, 0, 1), preprocessing)
    given = preprocess(pixels, preprocessing)
    assert given.dtype == np.float32
    assert given.flags.c_contiguous
    assert given.shape == tuple(expected.shape)
    level = 1 / (255 * np.array(preprocessing.std)[:, None, None])
    assert (np.abs(given - expected.numpy()) <= MOST_LEVELS * 1.01 * level).all()


@pytest.mark.parametrize("times", [1.5, 3, 5, 7.9, 9])
@pytest.mark.parametrize("levels", [(0, 2), (127, 129), (254, 256)])
def test_the_largest_sums_are_exact(levels: tuple[int, int], times: float):
    """Of images all dark or all bright, shrunk so far that float32 just holds them, and further."""
    random = np.random.default_rng(0)
    pixels = random.integers(*levels, (round(40 * times), round(30 * times), 3)).astype(np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = resize_image(tensor, [40, 30], antialias=True).permute(1, 2, 0).numpy()
    found = resize(pixels, (40, 30))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= MOST_LEVELS
