"""Mosaic and mixup: several images in one, so that more queries of an image have a target.

Source: dense one-to-one matching (arXiv 2412.04234, section 3.2). Mosaic is that of arXiv
2004.10934, section 3.3, and mixup of detection that of arXiv 1902.04103, section 3.1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from setmatch.data.batches.decoded_images import Decoded
from setmatch.structures.batch import Target

GRAY = 114  # of 255, where a quarter of a mosaic is not covered
MIXED = (0.45, 0.55)  # range of the first image's weight in a mixup


@dataclass(frozen=True)
class Combination:
    """Make a mosaic of an image with this probability, then a mixup with that.

    `other` returns another image of the training split, or None if it cannot be read. All random
    numbers are torch's. Without a probability above 0, none is drawn.
    """

    mosaic: float
    mixup: float
    images: int
    other: Callable[[int], Decoded | None]

    def __call__(self, first: Decoded) -> Decoded:
        """Return the image, or what is made of it and others, with the targets of all."""
        if self.mosaic and torch.rand(()) < self.mosaic:
            first = make_mosaic([first, *(self._draw() for _ in range(3))])
        if self.mixup and torch.rand(()) < self.mixup:
            weight = float(torch.empty(()).uniform_(*MIXED))
            second = self._draw()
            first = first if second is None else make_mixup(first, second, weight)
        return first

    def _draw(self) -> Decoded | None:
        return self.other(int(torch.randint(self.images, ())))


def make_mosaic(images: Sequence[Decoded | None]) -> Decoded:
    """Return four images in the quarters of a canvas that is as large as the first one.

    Each is resized to fit into its quarter, row by row, and touches the center. A quarter whose
    image is None stays gray. A canvas of a single pixel's height or width remains the first image.
    """
    first = images[0]
    assert first is not None, "the first image has been read"
    height, width = first[0].shape[1:]
    if min(height, width) < 2:
        return first
    canvas = torch.full((3, height, width), GRAY, dtype=torch.uint8)
    targets = []
    middle_y, middle_x = height // 2, width // 2
    for quarter, image in enumerate(images):
        if image is None:
            continue
        below, right = divmod(quarter, 2)
        room_px = (
            height - middle_y if below else middle_y,
            width - middle_x if right else middle_x,
        )
        pixels = _fitted(image[0], room_px)
        tall, wide = pixels.shape[1:]
        top = middle_y if below else middle_y - tall
        left = middle_x if right else middle_x - wide
        canvas[:, top : top + tall, left : left + wide] = pixels
        targets.append(_placed(image[1], (top, left), (tall, wide), (height, width)))
    return canvas, _joined(targets)


def make_mixup(first: Decoded, second: Decoded, weight: float) -> Decoded:
    """Return the weighted mean of two images, with the targets of both.

    The second is resized to fit into the first, at its upper left; beside it, the first is alone.
    """
    height, width = first[0].shape[1:]
    other = _fitted(second[0], (height, width))
    tall, wide = other.shape[1:]
    pixels = first[0].clone()
    part = pixels[:, :tall, :wide].float()
    pixels[:, :tall, :wide] = part.lerp(other.float(), 1 - weight).round().to(torch.uint8)
    placed = _placed(second[1], (0, 0), (tall, wide), (height, width))
    return pixels, _joined([first[1], placed])


def _fitted(pixels: UInt8[Tensor, "3 h w"], room_px: tuple[int, int]) -> UInt8[Tensor, "3 H W"]:
    """Return an image resized to fit into a room, with its own aspect ratio."""
    sides = pixels.shape[1:]
    scale = min(room / side for room, side in zip(room_px, sides, strict=True))
    fitted = [
        min(max(round(side * scale), 1), room) for side, room in zip(sides, room_px, strict=True)
    ]
    return F.resize(pixels, fitted, antialias=True)


def _placed(
    target: Target, corner_px: tuple[int, int], size_px: tuple[int, int], canvas_px: tuple[int, int]
) -> Target:
    """Return the target of an image that is placed on a canvas; all pairs are (y, x)."""
    corner, size, canvas = (
        torch.tensor(each[::-1], dtype=torch.float32) for each in (corner_px, size_px, canvas_px)
    )
    centers: Float[Tensor, "M 2"] = (target.cxcywh[:, :2] * size + corner) / canvas
    sides: Float[Tensor, "M 2"] = target.cxcywh[:, 2:] * size / canvas
    return Target(target.classes, torch.cat([centers, sides], dim=1))


def _joined(targets: Sequence[Target]) -> Target:
    return Target(
        torch.cat([target.classes for target in targets]),
        torch.cat([target.cxcywh for target in targets]),
    )
