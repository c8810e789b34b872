"""Image files as upright uint8 RGB tensors."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from setmatch.data.images.decoding import pixels_of, read_pixels


def read_image(
    path: str | Path, annotated_size_px: tuple[int, int] | None = None
) -> UInt8[Tensor, "3 H W"]:
    """Read an image file as RGB, turned upright, as `read_pixels` does; raises its DataError.

    `annotated_size_px` is the annotated (height, width).
    """
    return to_tensor(read_pixels(path, annotated_size_px))


def from_pillow(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """Return a Pillow image as RGB, turned upright; raises DataError if it cannot be decoded."""
    return to_tensor(pixels_of(image))


def to_tensor(pixels: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    """Return an array as a tensor that shares its memory.

    It is a channels-last view: torchvision resizes such uint8 images fastest.
    """
    return torch.from_numpy(pixels).permute(2, 0, 1)
