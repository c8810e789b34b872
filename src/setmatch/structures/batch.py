"""Batches of images, and their targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setmatch.structures.packed_masks import PackedMasks


@dataclass(frozen=True)
class Batch:
    """Images padded to one size at the bottom and right; `valid` is True on image pixels.

    `padded` says whether any pixel is padding. It is a Python value, so that choosing the path
    without attention masks needs no synchronization with the device.
    """

    pixels: Float[Tensor, "B 3 H W"]
    valid: Bool[Tensor, "B H W"]
    padded: bool

    @classmethod
    def from_images(cls, images: Sequence[Float[Tensor, "3 _ _"]]) -> Self:
        """Pad normalized float32 images of shape (3, h, w) with zeros to one size.

        Raises ValueError if there are no images or one has another shape.
        """
        if not images or any(image.ndim != 3 or image.shape[0] != 3 for image in images):
            shapes = [tuple(image.shape) for image in images]
            raise ValueError(f"Batch.from_images takes images of shape (3, h, w), got {shapes}")
        height = max(image.shape[1] for image in images)
        width = max(image.shape[2] for image in images)
        padded = any(image.shape[1:] != (height, width) for image in images)
        valid = torch.ones(len(images), height, width, dtype=torch.bool, device=images[0].device)
        if not padded:
            return cls(torch.stack(list(images)), valid, padded)
        # Zeroing the padding alone: zeroing everything would take as long as copying the images.
        pixels = images[0].new_empty(len(images), 3, height, width)
        for index, image in enumerate(images):
            _, bottom, right = image.shape
            pixels[index, :, :bottom, :right] = image
            pixels[index, :, bottom:] = 0
            pixels[index, :, :bottom, right:] = 0
            valid[index, bottom:] = False
            valid[index, :, right:] = False
        return cls(pixels, valid, padded)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the batch to `device`, without waiting for the copy."""
        return Batch(
            self.pixels.to(device, non_blocking=True),
            self.valid.to(device, non_blocking=True),
            self.padded,
        )

    def pin_memory(self) -> "Batch":
        """Copy the batch to page-locked memory, from which copies to a GPU are asynchronous."""
        return Batch(self.pixels.pin_memory(), self.valid.pin_memory(), self.padded)


@dataclass(frozen=True)
class Target:
    """The objects of one image: class indices, and boxes normalized to the unpadded image.

    `masks` have the size of the resized image, before padding (see `pad_to_batch`); None if boxes
    alone are trained.
    """

    classes: Int[Tensor, " M"]
    cxcywh: Float[Tensor, "M 4"]
    masks: PackedMasks | None = None

    def __len__(self) -> int:
        return self.classes.shape[0]

    def to(self, device: torch.device | str) -> "Target":
        """Copy the target to `device`, without waiting for the copy."""
        return Target(
            self.classes.to(device, non_blocking=True),
            self.cxcywh.to(device, non_blocking=True),
            None if self.masks is None else self.masks.to(device),
        )

    def pin_memory(self) -> "Target":
        """Copy the target to page-locked memory."""
        return Target(
            self.classes.pin_memory(),
            self.cxcywh.pin_memory(),
            None if self.masks is None else self.masks.pin_memory(),
        )
