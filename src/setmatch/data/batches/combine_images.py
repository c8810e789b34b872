"""Mosaic, mixup and copies: more objects in an image, so that more of its queries have a target.

Source: dense one-to-one matching (arXiv 2412.04234, section 3.2). Mosaic is that of arXiv
2004.10934, section 3.3, mixup of detection that of arXiv 1902.04103, section 3.1, and copies of
objects are those of DEIMv2 (arXiv 2509.20787).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from setmatch.data.batches.decoded_images import Decoded
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.structures.batch import Target

MOST_TURNED = 10.0  # degrees by which a mosaic is turned
MOST_SHIFTED = 0.1  # of each of its sides
SCALES = (0.5, 1.5)
MIXED = (0.45, 0.55)  # range of the first image's weight where another one is blended in
COPIES = 3  # objects that are copied into an image, each from another one
LEAST_COPIED_PX2 = 100  # area of their boxes
BORDER = (0.1, 0.25)  # range of what is copied around a box, as a fraction of its sides


class Combined(NamedTuple):
    """An image made of others, and whether it is a mosaic."""

    image: Decoded
    is_mosaic: bool


@dataclass(frozen=True)
class Combination:
    """Make a mosaic of an image with this probability, then a mixup with that, or else copies.

    A mosaic is turned, scaled and shifted at random.

    `other` returns another image of the training split, or None if it cannot be read. All random
    numbers are torch's. Without a probability above 0, none is drawn.
    """

    mosaic: float
    mixup: float
    copies: float
    images: int
    other: Callable[[int], Decoded | None]

    def __call__(self, first: Decoded) -> Combined:
        """Return the image, or what is made of it and others, with the targets of all."""
        is_mosaic = bool(self.mosaic and torch.rand(()) < self.mosaic)
        if is_mosaic:
            first = _moved_at_random(make_mosaic([first, *(self._draw() for _ in range(3))]))
        return Combined(self._mixed(first), is_mosaic)

    def _mixed(self, first: Decoded) -> Decoded:
        if self.mixup and torch.rand(()) < self.mixup:
            weight = float(torch.empty(()).uniform_(*MIXED))
            second = self._draw()
            return first if second is None else make_mixup(first, second, weight)
        if self.copies and torch.rand(()) < self.copies:
            weight = float(torch.empty(()).uniform_(*MIXED))
            return copy_objects(first, [self._draw() for _ in range(COPIES)], weight)
        return first

    def _draw(self) -> Decoded | None:
        return self.other(int(torch.randint(self.images, ())))


def make_mosaic(images: Sequence[Decoded | None]) -> Decoded:
    """Return four images in the quarters of a canvas that is as large as the first one.

    Each is resized to fit into its quarter, row by row, and touches the center. A quarter whose
    image is None stays black. A canvas of a single pixel's height or width remains the first image.
    """
    first = images[0]
    assert first is not None, "the first image has been read"
    height, width = first[0].shape[1:]
    if min(height, width) < 2:
        return first
    canvas = torch.zeros(3, height, width, dtype=torch.uint8)
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


def move_image(image: Decoded, degrees: float, shift: tuple[float, float], scale: float) -> Decoded:
    """Return an image that is turned clockwise about its center, scaled, then shifted by (x, y).

    `shift` is a fraction of the sides. The canvas stays as large, and is black where nothing is.
    A box becomes the smallest upright one around the turned box, cut off at the edge of the canvas;
    objects outside of it are left out.
    """
    pixels, target = image
    height, width = pixels.shape[1:]
    shift_px = [round(part * side) for part, side in zip(shift, (width, height), strict=True)]
    pixels = F.affine(
        pixels,
        angle=degrees,
        translate=shift_px,
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=[0.0],
    )
    angle = torch.tensor(degrees).deg2rad()
    middle_px, sides_px = torch.tensor([width / 2, height / 2]), torch.tensor([width, height])
    turn = scale * torch.stack(
        [torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])]
    )
    xyxy = cxcywh_to_xyxy(target.cxcywh)
    corners: Float[Tensor, "M 4 2"] = xyxy[:, [0, 1, 2, 1, 0, 3, 2, 3]].view(-1, 4, 2)
    moved = (corners * sides_px - middle_px) @ turn + middle_px + torch.tensor(shift_px)
    edges = torch.cat([moved.amin(1), moved.amax(1)], dim=1) / sides_px.repeat(2)
    visible = edges.clamp(0, 1)
    kept = (visible[:, 2:] > visible[:, :2]).all(1)
    return pixels, Target(target.classes[kept], xyxy_to_cxcywh(visible[kept]))


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


def copy_objects(first: Decoded, others: Sequence[Decoded | None], weight: float) -> Decoded:
    """Return an image with one object of each other image, blended in at random places.

    `weight` is that of the image where an object and what is around its box lie upon it. An image
    is resized to fit into the first before its object is chosen; one without any of 100 pixels, or
    that is None, gives nothing.
    """
    pixels = first[0].clone()
    copied = [_copy_object(pixels, each, weight) for each in others if each is not None]
    return pixels, _joined([first[1], *(target for target in copied if target is not None)])


def _copy_object(canvas: UInt8[Tensor, "3 H W"], image: Decoded, weight: float) -> Target | None:
    """Blend a random object of an image into the canvas; return its target there."""
    height, width = canvas.shape[1:]
    source = _fitted(image[0], (height, width))
    source_xy, canvas_xy = (torch.tensor(each.shape[:0:-1]) for each in (source, canvas))
    corners: Float[Tensor, "M 2 2"] = cxcywh_to_xyxy(image[1].cxcywh).view(-1, 2, 2) * source_xy
    first, last = corners.round().long().clamp(min=0).minimum(source_xy).unbind(1)
    large = torch.nonzero((last - first).prod(1) >= LEAST_COPIED_PX2)[:, 0]
    if not len(large):
        return None
    chosen = large[int(torch.randint(len(large), ()))]
    first, last = first[chosen], last[chosen]
    size = last - first
    place = torch.stack([torch.randint(int(room) + 1, ()) for room in canvas_xy - size])
    border = (size * torch.empty(()).uniform_(*BORDER)).long()
    before = torch.stack([border, first, place]).amin(0)  # as far as both images reach
    after = torch.stack([border, source_xy - last, canvas_xy - place - size]).amin(0)
    (left, top), (x, y), (wide, tall) = (
        each.tolist() for each in (first - before, place - before, before + size + after)
    )
    patch = source[:, top : top + tall, left : left + wide].float()
    under = canvas[:, y : y + tall, x : x + wide]
    under.copy_(under.float().lerp(patch, 1 - weight).round())
    box = torch.cat([place + size / 2, size]) / canvas_xy.repeat(2)
    return Target(image[1].classes[chosen, None], box[None])


def _moved_at_random(image: Decoded) -> Decoded:
    turned, x, y = (torch.rand(3) * 2 - 1).tolist()
    scale = float(torch.empty(()).uniform_(*SCALES))
    return move_image(image, turned * MOST_TURNED, (x * MOST_SHIFTED, y * MOST_SHIFTED), scale)


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
