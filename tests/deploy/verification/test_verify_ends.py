"""An end-to-end graph may round otherwise than torchvision while it resizes, and no more."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from setmatch.data.synthetic.scenes import scene
from setmatch.deploy.verification.verify_ends import require_resized
from setmatch.errors import VerificationError
from setmatch.structures.metadata import Preprocessing


def weights(side: int, new: int) -> NDArray[np.float64]:
    """Of old pixels in each new one: triangles as wide as two new pixels, and at least two old."""
    scale = side / new
    center = (np.arange(new)[:, None] + 0.5) * scale
    near = np.maximum(1 - np.abs(np.arange(side) + 0.5 - center) / max(scale, 1), 0)
    return near / near.sum(1, keepdims=True)


def exactly_resized(image: Tensor, new: int) -> Tensor:
    """In float64 along rows, then along columns, rounded after both."""
    along = weights(image.shape[2], new)
    rows = np.floor(image.numpy() @ along.T + 0.5)
    both = np.floor(np.einsum("pq,cqx->cpx", weights(image.shape[1], new), rows) + 0.5)
    return torch.from_numpy(both).to(torch.uint8)


def image(number: int) -> Tensor:
    return torch.from_numpy(scene((0, number), 320).pixels).permute(2, 0, 1)


@pytest.mark.parametrize("side", [160, 312, 384, 416])
def test_exact_arithmetic_is_taken(side: int):
    """At some sizes it differs by two levels from torchvision's in a few of a million values."""
    square = Preprocessing(size_px=(side, side))
    for number in range(3):
        require_resized(exactly_resized(image(number), side), image(number), square, "here")


@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("part", [1, 20])
def test_other_pixels_are_refused(levels: int, part: int):
    """Three levels in one value, or two in many."""
    resized = exactly_resized(image(0), 512)
    resized.view(-1)[:: 512 * 512 * 3 if part == 1 else part] ^= levels
    square = Preprocessing(size_px=(512, 512))
    if (levels, part) == (2, 1):
        require_resized(resized, image(0), square, "here")
        return
    with pytest.raises(VerificationError, match=f"differ by {levels} of 255"):
        require_resized(resized, image(0), square, "here")
