"""Batches of images, and their targets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setmatch.errors import ConfigError, DataError
from setmatch.structures.packed_masks import PackedMasks

FARTHEST = 1.0  # how far the center of a box may lie outside its image, in sides of the image


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

        A batch of one image shares its memory. Raises ValueError if there are no images or one has
        another shape.
        """
        if not images or any(image.ndim != 3 or image.shape[0] != 3 for image in images):
            shapes = [tuple(image.shape) for image in images]
            raise ValueError(f"Batch.from_images takes images of shape (3, h, w), got {shapes}")
        height = max(image.shape[1] for image in images)
        width = max(image.shape[2] for image in images)
        padded = any(image.shape[1:] != (height, width) for image in images)
        valid = torch.ones(len(images), height, width, dtype=torch.bool, device=images[0].device)
        if len(images) == 1:  # a copy of a large image takes as long as some tiles of it
            return cls(images[0][None], valid, padded)
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

    def sizes_px(self) -> list[tuple[int, int]]:
        """Return the (height, width) of each image without its padding."""
        if not self.padded:
            height, width = self.pixels.shape[-2:]
            return [(height, width)] * len(self.pixels)
        sides = torch.stack([self.valid[:, :, 0].sum(1), self.valid[:, 0].sum(1)], dim=1)
        return [(height, width) for height, width in sides.tolist()]

    def part(self, images: slice) -> "Batch":
        """Return some of the images, with the padding that they have here."""
        return Batch(self.pixels[images], self.valid[images], self.padded)

    def one_by_one(self) -> "list[Batch]":
        """Return a batch of every image alone, without its padding."""
        images = zip(self.pixels, self.sizes_px(), strict=True)
        return [Batch.from_images([image[:, :height, :width]]) for image, (height, width) in images]

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
    alone are trained. All values are checked here, once, where they usually are on the CPU; what is
    left for the training step is to compare `class_limit`, one more than the largest class index,
    with the classes of the model. Raises DataError for boxes that are no fractions of the image,
    such as pixels, for values that are not finite, and for other shapes or types.
    """

    classes: Int[Tensor, " M"]
    cxcywh: Float[Tensor, "M 4"]
    masks: PackedMasks | None = None
    class_limit: int = field(default=-1, repr=False, compare=False)  # -1: not checked yet

    def __post_init__(self) -> None:
        if self.class_limit < 0:
            object.__setattr__(self, "class_limit", _checked_class_limit(self))

    def __len__(self) -> int:
        return self.classes.shape[0]

    def to(self, device: torch.device | str) -> "Target":
        """Copy the target to `device`, without waiting for the copy."""
        return replace(
            self,
            classes=self.classes.to(device, non_blocking=True),
            cxcywh=self.cxcywh.to(device, non_blocking=True),
            masks=None if self.masks is None else self.masks.to(device),
        )

    def pin_memory(self) -> "Target":
        """Copy the target to page-locked memory."""
        return replace(
            self,
            classes=self.classes.pin_memory(),
            cxcywh=self.cxcywh.pin_memory(),
            masks=None if self.masks is None else self.masks.pin_memory(),
        )


def require_batch(batch: Any) -> None:
    """Raise ConfigError unless `batch` is a Batch."""
    if not isinstance(batch, Batch):
        raise ConfigError(
            f"a model takes a Batch, but got {_described(batch)}; make one of normalized images "
            "(3, h, w) with setmatch.Batch.from_images"
        )


def require_targets(targets: Any, images: int, num_classes: int | None) -> None:
    """Check the targets of `images` images for a model of `num_classes` classes, if it is known.

    It reads nothing from a device. Raises DataError if `targets` is no sequence of one `Target` per
    image, or has a class index that the model does not have.
    """
    given = targets if isinstance(targets, list | tuple) else [targets]
    for target in given:
        if not isinstance(target, Target):
            raise DataError(
                f"targets: got {_described(target)}; give one setmatch.Target(classes, cxcywh) for "
                "each image"
            )
    if len(targets) != images:
        raise DataError(
            f"targets: there are {len(targets)} for {images} images; give one setmatch.Target for "
            "each image, without rows if it has no objects"
        )
    for image, target in enumerate(targets):
        if num_classes is not None and target.class_limit > num_classes:
            raise DataError(
                f"targets of image {image}: class index {target.class_limit - 1} is out of range; "
                f"the model has the classes 0 to {num_classes - 1}"
            )


def _checked_class_limit(target: Target) -> int:
    """Return one more than the largest class index, after checking all values."""
    classes: Any = target.classes
    cxcywh: Any = target.cxcywh
    if not isinstance(classes, Tensor) or classes.dtype != torch.int64 or classes.ndim != 1:
        raise DataError(
            f"Target: classes are {_described(classes)}; they should be class indices (M,) as an "
            "int64 tensor"
        )
    count = len(classes)
    is_box = isinstance(cxcywh, Tensor) and cxcywh.is_floating_point()
    if not is_box or cxcywh.shape != (count, 4):
        raise DataError(
            f"Target: boxes are {_described(cxcywh)}; they should be a floating-point tensor "
            f"({count}, 4), a row for each class index"
        )
    if target.masks is not None and len(target.masks) != count:
        raise DataError(f"Target: there are {len(target.masks)} masks for {count} class indices")
    if not count:
        return 0
    least, most = torch.stack(classes.aminmax()).tolist()
    if least < 0:
        raise DataError(f"Target: class index {least}: class indices count from 0")
    low, high = torch.stack([cxcywh.amin(0), cxcywh.amax(0)]).tolist()
    inside = all(a >= -FARTHEST and b <= 1 + FARTHEST for a, b in zip(low, high, strict=True))
    if not inside or min(low[2:]) < 0:
        raise DataError(_wrong_box(cxcywh))
    return int(most) + 1


def _wrong_box(cxcywh: Float[Tensor, "M 4"]) -> str:
    """Return what is wrong with the first box that is no fractions of the image."""
    near = (cxcywh >= -FARTHEST) & (cxcywh <= 1 + FARTHEST)
    positive = cxcywh[:, 2:] >= 0
    row = int((~near.all(1) | ~positive.all(1)).nonzero()[0])
    box = cxcywh[row].tolist()
    text = f"Target: box {row} is ({', '.join(f'{value:g}' for value in box)})"
    meaning = "center x, center y, width and height, as fractions of the image"
    if not all(map(math.isfinite, box)):
        return f"{text}, which is not finite; boxes are {meaning}"
    if near[row].all():
        return f"{text}, with a negative side; boxes are {meaning}, not corners"
    return f"{text}; boxes are {meaning}: divide pixels by the width and height of the image"


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a {kind} tensor of shape {tuple(value.shape)}"
    return f"a value of type {type(value).__name__}"
