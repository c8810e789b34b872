"""Batches of images, and their targets."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setmatch.errors import ConfigError, DataError, short
from setmatch.structures.packed_masks import PackedMasks
from setmatch.structures.tensor_checks import (
    described,
    is_floating,
    is_size_px,
    require_one_device,
)

FARTHEST = 1.0  # how far the center of a box may lie outside its image, in sides of the image
UNNORMALIZED = 30.0  # above normalized values, below the bytes of an image that is not black
OUTSIDE = 0.1  # how far a box may reach out of its image before it may be one of corners


@dataclass(frozen=True, eq=False)
class Batch:
    """Images padded to one size at the bottom and right; `valid` is True on image pixels.

    `padded` says whether any pixel is padding. It is a Python value, so that choosing the path
    without attention masks needs no synchronization with the device. Raises DataError for other
    types, shapes or devices; no value is read.
    """

    pixels: Float[Tensor, "B 3 H W"]
    valid: Bool[Tensor, "B H W"]
    padded: bool

    def __post_init__(self) -> None:
        if not torch.compiler.is_compiling():  # whose sizes are symbols
            _require_batch_parts(self)

    @classmethod
    def from_images(cls, images: Sequence[Float[Tensor, "3 _ _"]]) -> Self:
        """Pad normalized float32 images of shape (3, h, w) with zeros to one size.

        A batch of one image shares its memory. Raises DataError if there are no images, or one has
        another shape, type or device than a batch takes.
        """
        _require_images(images)
        _warn_of_unnormalized(images[0])
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


@dataclass(frozen=True, eq=False)
class Target:
    """The objects of one image: class indices, and boxes normalized to the unpadded image, float32.

    `masks` have the size of the resized image, before padding (see `pad_to_batch`); None if boxes
    alone are trained. All values are checked here, once, where they usually are on the CPU; what is
    left for the training step is to compare `class_limit`, one more than the largest class index,
    with the classes of the model. Raises DataError for boxes that are not fractions of the image,
    such as pixels, for values that are not finite, and for other shapes or types. Warns of boxes
    that look like corners.
    """

    classes: Int[Tensor, " M"]
    cxcywh: Float[Tensor, "M 4"]
    masks: PackedMasks | None = None
    class_limit: int = field(default=-1, repr=False, compare=False)  # -1: not checked yet

    def __post_init__(self) -> None:
        if self.class_limit < 0:
            object.__setattr__(self, "class_limit", _checked_class_limit(self))
            object.__setattr__(self, "cxcywh", self.cxcywh.float())  # as models compute

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
            f"a model takes a Batch, but got {described(batch)}; make one of normalized images "
            "(3, h, w) with setmatch.Batch.from_images"
        )


def require_sizes(sizes_px: Any, images: int) -> None:
    """Raise ConfigError unless `sizes_px` is a sequence of a (height, width) for each image."""
    are_sizes = isinstance(sizes_px, Sequence) and all(map(is_size_px, sizes_px))
    if not are_sizes or len(sizes_px) != images:
        raise ConfigError(
            f"sizes_px = {short(sizes_px)}: give the (height, width) of each of the {images} "
            "original images, such as [(480, 640)]"
        )


def require_targets(
    targets: Any, images: int, num_classes: int | None, device: torch.device | None = None
) -> None:
    """Check the targets of `images` images for a model of `num_classes` classes, if it is known.

    It reads nothing from a device. Raises DataError unless `targets` has one `Target` per image,
    with class indices that the model has, on `device`.
    """
    given = targets if isinstance(targets, list | tuple) else [targets]
    for target in given:
        if not isinstance(target, Target):
            raise DataError(
                f"targets: got {described(target)}; give one setmatch.Target(classes, cxcywh) for "
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
        if device is not None and target.cxcywh.device != device:
            raise DataError(
                f"targets of image {image}: they are on {target.cxcywh.device}, and the "
                f"images on {device}; move them with target.to({str(device)!r})"
            )


def _require_images(images: Any) -> None:
    """Raise DataError unless `images` are what a batch is made of."""
    wanted = "give a list of normalized floating-point images (3, h, w)"
    if not isinstance(images, Sequence) or isinstance(images, str) or not images:
        given = "an empty list" if images == [] else described(images)
        raise DataError(f"Batch.from_images: got {given}; {wanted}")
    first = images[0]
    for number, image in enumerate(images):
        if not is_floating(image, 3, None, None) or 0 in image.shape:
            raise DataError(f"Batch.from_images: image {number} is {described(image)}; {wanted}")
        if (image.dtype, image.device) != (first.dtype, first.device):
            raise DataError(
                f"Batch.from_images: image {number} is {described(image)} on {image.device}, and "
                f"image 0 is {described(first)} on {first.device}; all have one type and device"
            )


def _warn_of_unnormalized(image: Float[Tensor, "3 _ _"]) -> None:
    """Warn of an image whose values look like 0 to 255; looks at few pixels, of the CPU alone."""
    if image.device.type == "cpu" and (most := float(image[:, ::32, ::32].amax())) > UNNORMALIZED:
        warnings.warn(
            f"Batch.from_images: image 0 reaches {most:g}, as 0 to 255 does; a model takes pixels "
            "of 0 to 1 that are normalized with its mean and std (model.card.preprocessing): "
            "setmatch.data.transforms.preprocess(image, preprocessing)",
            stacklevel=3,
        )


def _require_batch_parts(batch: Batch) -> None:
    pixels: Any = batch.pixels
    valid: Any = batch.valid
    if not is_floating(pixels, None, 3, None, None):
        raise DataError(
            f"Batch: pixels are {described(pixels)}; they should be normalized images as a "
            "floating-point tensor (images, 3, height, width), as Batch.from_images makes it"
        )
    is_mask = isinstance(valid, Tensor) and valid.dtype == torch.bool
    if not is_mask or valid.shape != (*pixels.shape[:1], *pixels.shape[2:]):
        raise DataError(
            f"Batch: valid is {described(valid)}; it should be a bool tensor (images, height, "
            f"width) for pixels of shape {tuple(pixels.shape)}, True on the pixels of an image"
        )
    if not isinstance(batch.padded, bool):
        raise DataError(
            f"Batch: padded is {described(batch.padded)}; give True if any pixel is padding, else "
            "False"
        )
    require_one_device("Batch", pixels=pixels, valid=valid)


def _checked_class_limit(target: Target) -> int:
    """Return one more than the largest class index, after checking all values."""
    classes: Any = target.classes
    cxcywh: Any = target.cxcywh
    if not isinstance(classes, Tensor) or classes.dtype != torch.int64 or classes.ndim != 1:
        raise DataError(
            f"Target: classes are {described(classes)}; they should be class indices (M,) as an "
            "int64 tensor"
        )
    count = len(classes)
    is_box = isinstance(cxcywh, Tensor) and cxcywh.is_floating_point()
    if not is_box or cxcywh.shape != (count, 4):
        raise DataError(
            f"Target: boxes are {described(cxcywh)}; they should be a floating-point tensor "
            f"({count}, 4), a row for each class index"
        )
    masks: Any = target.masks
    if not isinstance(masks, PackedMasks | None):
        raise DataError(
            f"Target: masks are {described(masks)}; pack a bool tensor ({count}, height, width) "
            "with setmatch.structures.packed_masks.PackedMasks.pack"
        )
    if masks is not None and len(masks) != count:
        raise DataError(f"Target: there are {len(masks)} masks for {count} class indices")
    require_one_device("Target", classes=classes, boxes=cxcywh)
    if not count:
        return 0
    least, most = torch.stack(classes.aminmax()).tolist()
    if least < 0:
        raise DataError(f"Target: class index {least}: class indices count from 0")
    low, high = torch.stack([cxcywh.amin(0), cxcywh.amax(0)]).tolist()
    inside = all(a >= -FARTHEST and b <= 1 + FARTHEST for a, b in zip(low, high, strict=True))
    if not inside or min(low[2:]) < 0:
        raise DataError(_wrong_box(cxcywh))
    half = max(high[2:]) / 2  # of the largest side: none of these boxes may reach out
    if half > min(low[:2]) + OUTSIDE or max(high[:2]) + half > 1 + OUTSIDE:
        _warn_of_corners(cxcywh)
    return int(most) + 1


def _warn_of_corners(cxcywh: Float[Tensor, "M 4"]) -> None:
    """Warn if boxes reach far out of their image, and all would be boxes inside it as corners.

    It is not an error, since a box of an object that is cut off may reach out.
    """
    start = cxcywh[:, :2] - cxcywh[:, 2:] / 2
    far = (start < -OUTSIDE) | (start + cxcywh[:, 2:] > 1 + OUTSIDE)
    inside = (cxcywh >= 0) & (cxcywh <= 1)
    if not far.any() or not inside.all() or not (cxcywh[:, 2:] > cxcywh[:, :2]).all():
        return
    row = int(far.any(1).nonzero()[0])
    box = ", ".join(f"{value:g}" for value in cxcywh[row].tolist())
    warnings.warn(
        f"Target: box {row} is ({box}), which reaches far out of the image as center and size; if "
        "boxes are corners (x0, y0, x1, y1), convert them with setmatch.ops.boxes.xyxy_to_cxcywh",
        stacklevel=5,  # where the Target is made
    )


def _wrong_box(cxcywh: Float[Tensor, "M 4"]) -> str:
    """Return what is wrong with the first box that is not in fractions of the image."""
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
