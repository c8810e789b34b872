"""A batch of images and its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setmatch.structures.packed_masks import PackedMasks


@dataclass(frozen=True)
class Batch:
    """Images padded to one size, top left, and which pixels belong to an image.

    `padded` is known when the batch is built, so that choosing the unmasked path asks no device.
    """

    pixels: Float[Tensor, "B 3 H W"]
    valid: Bool[Tensor, "B H W"]
    padded: bool

    @classmethod
    def from_images(cls, images: Sequence[Float[Tensor, "3 _ _"]]) -> "Batch":
        """Pad normalized float32 images (3, h, w) with zeros, at the bottom and right, to one size.

        Raises ValueError when there is no image, or one is not (3, h, w).
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
        # Only the padding is set to zero: on all, it would take as long as copying the images.
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
        """Return the same batch on `device`, without waiting for the copy."""
        return Batch(
            self.pixels.to(device, non_blocking=True),
            self.valid.to(device, non_blocking=True),
            self.padded,
        )

    def pin_memory(self) -> "Batch":
        """Return the same batch in page-locked memory, from which copies to a GPU can overlap."""
        return Batch(self.pixels.pin_memory(), self.valid.pin_memory(), self.padded)


@dataclass(frozen=True)
class Target:
    """The objects of one image: class slots, and boxes as fractions of the unpadded image.

    `masks` are the objects' pixels, in the size in which the model sees the image, before a batch
    pads it: whoever compares them with a batch pads them with nothing, at the bottom and right.
    None where boxes are all there is to learn.
    """

    classes: Int[Tensor, " M"]
    cxcywh: Float[Tensor, "M 4"]
    masks: PackedMasks | None = None

    def __len__(self) -> int:
        return self.classes.shape[0]

    def to(self, device: torch.device | str) -> "Target":
        """Return the same target on `device`, without waiting for the copy."""
        return Target(
            self.classes.to(device, non_blocking=True),
            self.cxcywh.to(device, non_blocking=True),
            None if self.masks is None else self.masks.to(device),
        )

    def pin_memory(self) -> "Target":
        """Return the same target in page-locked memory."""
        return Target(
            self.classes.pin_memory(),
            self.cxcywh.pin_memory(),
            None if self.masks is None else self.masks.pin_memory(),
        )
