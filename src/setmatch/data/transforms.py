"""From a photograph and its objects to what the model sees: sizes, augmentation, normalization."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image, Mask

from setmatch.errors import ConfigError
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks

# The boxes of an image, then its masks if they are wanted.
Objects: TypeAlias = BoundingBoxes | Mask
Scene = tuple[Image | Objects, ...]
Step = Callable[..., Scene]
Transform = Callable[[UInt8[Tensor, "3 H W"], Target], tuple[Float[Tensor, "3 h w"], Target, int]]

_PUBLISHED = Preprocessing()
_SHORT_SIDES_PX = tuple(range(480, 801, 32))
_SHORT_SIDES_BEFORE_CROP_PX = (400, 500, 600)
_CROP_SIDES_PX = (384, 600)
_ROUNDING = 1e-5  # of a side, by which a box may pass the edge without being clipped
_GRAY = (0.299, 0.587, 0.114)  # how bright red, green and blue look (ITU-R BT.601)


def resized_px(size_px: tuple[int, int], short_px: int, long_px: int) -> tuple[int, int]:
    """Return the (height, width) to resize to: short side `short_px`, long side near `long_px`.

    The published rule: only a long side that would pass `long_px` makes the short one smaller,
    to round(long_px · short / long); the other side is int(S · long / short). Strips so thin
    that the short side would vanish keep one pixel of it.
    """
    short, long = sorted(size_px)
    if long / short * short_px > long_px:
        short_px = round(long_px * short / long)
    other_px = int(short_px * long / short) if short_px else long_px
    sides = (max(short_px, 1), other_px)
    return sides if size_px[0] <= size_px[1] else sides[::-1]


def evaluation_px(size_px: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) in which the model sees an image outside of training."""
    return resized_px(size_px, preprocessing.short_side_px, preprocessing.long_side_px)


def preprocess(
    image: UInt8[Tensor, "3 H W"],
    preprocessing: Preprocessing,
    size_px: tuple[int, int] | None = None,
) -> Float[Tensor, "3 h w"]:
    """Resize and normalize an image for evaluation or prediction.

    `size_px` overrules the size that follows from the image's own.
    """
    height, width = image.shape[1:]
    target_px = size_px or evaluation_px((height, width), preprocessing)
    return normalize(F.resize(image, list(target_px), antialias=True), preprocessing)


def normalize(
    image: UInt8[Tensor, "3 h w"], preprocessing: Preprocessing
) -> Float[Tensor, "3 h w"]:
    """Scale an image to 0..1 and normalize it by mean and standard deviation, in float32."""
    # Channel by channel in place: the plain arithmetic on all takes four times longer, most of it
    # for the memory of its intermediate results.
    pixels = torch.empty(image.shape)
    pixels.copy_(image)
    for channel, mean, std in zip(pixels, preprocessing.mean, preprocessing.std, strict=True):
        channel.mul_(1 / (255 * std)).sub_(mean / std)
    return pixels


@dataclass(frozen=True)
class RandomResize:
    """Resize by the published size rule, the short side drawn from `short_sides_px`."""

    short_sides_px: tuple[int, ...]
    long_px: int

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Draw a short side; resize the image and its objects."""
        short_px = self.short_sides_px[_draw(0, len(self.short_sides_px) - 1)]
        height, width = image.shape[-2:]
        size_px = list(resized_px((height, width), short_px, self.long_px))
        return _resized(size_px, image, *objects)


@dataclass(frozen=True)
class RandomSizeCrop:
    """Cut out a window whose sides are each drawn from min..max (or the image's side, if less)."""

    min_px: int
    max_px: int

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Draw the window's sides and its place; cut the image and clip its objects."""
        sides = image.shape[-2:]
        cut = [_draw(min(self.min_px, side), min(self.max_px, side)) for side in sides]
        corner = [_draw(0, side - kept) for side, kept in zip(sides, cut, strict=True)]
        return tuple(F.crop(each, *corner, *cut) for each in (image, *objects))


@dataclass(frozen=True)
class RandomZoom:
    """Look at the image through a window of its own shape, then resize as for evaluation.

    The window's sides are those of the image times a factor whose logarithm is uniform between
    -`reach` and `reach`; a window larger than the image shows `fill` around it.
    """

    reach: float
    fill: tuple[int, ...]
    preprocessing: Preprocessing

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Draw the window's size, then its place, inside the image or around it."""
        height, width = image.shape[-2:]
        size_px = list(evaluation_px((height, width), self.preprocessing))
        factor = math.exp(float(torch.empty(()).uniform_(-self.reach, self.reach)))
        cut = [max(round(side * factor), 1) for side in (height, width)]
        before, after = zip(
            *(_split(side - kept) for side, kept in zip((height, width), cut, strict=True)),
            strict=True,
        )
        if factor > 1:
            padding = [-before[1], -before[0], -after[1], -after[0]]
            image = F.pad(image, padding, fill=list(self.fill))
            return _resized(size_px, image, *(F.pad(each, padding) for each in objects))
        return _resized(size_px, *(F.crop(each, *before, *cut) for each in (image, *objects)))


@dataclass(frozen=True)
class ColorJitter:
    """Change brightness, contrast and saturation, each by a factor from 1 - `reach` to 1 + `reach`.

    All three are linear in the colors, so that one 3×3 matrix does what v2.ColorJitter does in
    three passes, in a quarter of its time. No hue: it would change what colors mean.
    """

    reach: float

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Draw the factors; change the image, whose values stay within 0..255."""
        low, high = 1 - self.reach, 1 + self.reach
        brightness, contrast, saturation = torch.empty(3).uniform_(low, high).tolist()
        pixels = image.as_subclass(Tensor).float().flatten(1)
        gray = torch.tensor(_GRAY)
        colors = (
            brightness
            * contrast
            * (saturation * torch.eye(3) + (1 - saturation) * gray.expand(3, 3))
        )
        middle = brightness * (1 - contrast) * (gray @ pixels.mean(1))
        lit = torch.addmm(middle.expand(3, 1), colors, pixels).clamp_(0, 255)
        return Image(lit.to(torch.uint8).view(image.shape)), *objects


@dataclass(frozen=True)
class Augmentation:
    """A pipeline of steps, and the normalization that ends it.

    A class and not a closure, because workers that are spawned get it as a pickle.
    """

    pipeline: v2.Compose
    preprocessing: Preprocessing

    def __call__(
        self, image: UInt8[Tensor, "3 H W"], target: Target
    ) -> tuple[Float[Tensor, "3 h w"], Target, int]:
        """Return what one training step sees of an image and its target, and how many were clipped.

        Clipped are boxes that pass the edge of what is seen; those that keep nothing are dropped.
        """
        height, width = image.shape[1:]
        scale = torch.tensor([width, height, width, height])
        boxes = BoundingBoxes(
            cxcywh_to_xyxy(target.cxcywh) * scale,
            format=BoundingBoxFormat.XYXY,
            canvas_size=(height, width),
            clamping_mode=None,  # only in the end, so that what is clipped can be counted
        )
        masks = [] if target.masks is None else [_masks(target.masks, (height, width))]
        seen, boxes, *masks = self.pipeline(Image(image), boxes, *masks)
        seen_target, clipped = _target(target.classes, boxes, *masks)
        return normalize(seen.as_subclass(Tensor), self.preprocessing), seen_target, clipped


def training_transform(augment: str, preprocessing: Preprocessing) -> Transform:
    """Return what turns a uint8 image and its target into what one training step sees.

    "detr" is the published augmentation (arXiv 2005.12872, appendix A.4), its numbers scaled with
    `preprocessing`'s sides from 800 and 1333; "small" suits some hundred images: flip, and for
    every other image zoom, shift and light; "flip" mirrors every other image, which is enough where
    few epochs are to come; "none" only resizes. All draw from torch's generator. Raises ConfigError
    for other names.
    """
    pipelines: dict[str, Callable[[Preprocessing], list[Step]]] = {
        "detr": published,
        "small": _few_images,
        "flip": _mirrored,
        "none": _nothing,
    }
    if augment not in pipelines:
        raise ConfigError(f"data.augment = {augment!r}: known are {', '.join(pipelines)}")
    return Augmentation(v2.Compose(pipelines[augment](preprocessing)), preprocessing)


def weak_augmentation(augment: str) -> str:
    """Return the augmentation for pictures that are still new to the model: the mirror alone."""
    return "none" if augment == "none" else "flip"


def published(preprocessing: Preprocessing) -> list[Step]:
    """Return the steps of the published augmentation, scaled to `preprocessing`'s sides."""
    short = preprocessing.short_side_px / _PUBLISHED.short_side_px
    long_px = preprocessing.long_side_px
    resize = RandomResize(_scaled(_SHORT_SIDES_PX, short), long_px)
    # The published resize before the crop knows no longest side; four times the usual one only
    # keeps panoramas from filling the memory.
    before_crop = RandomResize(_scaled(_SHORT_SIDES_BEFORE_CROP_PX, short), 4 * long_px)
    crop = RandomSizeCrop(*_scaled(_CROP_SIDES_PX, short))
    return [
        v2.RandomHorizontalFlip(0.5),
        v2.RandomChoice([resize, v2.Compose([before_crop, crop, resize])]),
    ]


def _few_images(preprocessing: Preprocessing) -> list[Step]:
    gray = tuple(round(255 * mean) for mean in preprocessing.mean)
    changed = v2.Compose([RandomZoom(0.35, gray, preprocessing), ColorJitter(0.3)])
    # Half of them as they are: where a hundred photographs are all there is, a model that sees each
    # changed every time is slow to learn anything.
    return [
        v2.RandomHorizontalFlip(0.5),
        v2.RandomChoice([changed, v2.Compose(_nothing(preprocessing))]),
    ]


def _mirrored(preprocessing: Preprocessing) -> list[Step]:
    return [v2.RandomHorizontalFlip(0.5), *_nothing(preprocessing)]


def _nothing(preprocessing: Preprocessing) -> list[Step]:
    return [RandomResize((preprocessing.short_side_px,), preprocessing.long_side_px)]


def _scaled(sides_px: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(round(side * factor), 1) for side in sides_px)


def _draw(low: int, high: int) -> int:
    """Return a whole number from `low` to `high`, both included, from torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def _split(spare: int) -> tuple[int, int]:
    """Share out pixels, or with a negative number lacking ones, to the two ends of a side."""
    first = _draw(0, abs(spare))
    return (first, spare - first) if spare > 0 else (-first, spare + first)


def _resized(size_px: list[int], image: Image, *objects: Objects) -> Scene:
    return (
        F.resize(image, size_px, antialias=True),
        *(F.resize(each, size_px) for each in objects),
    )


def _masks(masks: PackedMasks, size_px: tuple[int, int]) -> Mask:
    """Return planes of masks in the size of their image, which may be smaller than annotated."""
    planes = Mask(masks.planes())
    return planes if planes.shape[1:] == size_px else F.resize(planes, list(size_px))


def _target(classes: Tensor, boxes: BoundingBoxes, masks: Mask | None = None) -> tuple[Target, int]:
    """Return the objects that still have an area, their boxes clipped to the canvas, and how many.

    Boxes are fractions of the canvas.
    """
    height, width = boxes.canvas_size
    whole = boxes.as_subclass(Tensor) / torch.tensor([width, height, width, height])
    xyxy = whole.clamp(0, 1)
    keep = (xyxy[:, 2:] > xyxy[:, :2]).all(dim=1)
    packed = None
    if masks is not None:
        packed = PackedMasks.from_planes(masks.as_subclass(Tensor), len(classes))
        keep &= packed.any()
        packed = packed[keep]
    past_edge = (whole - xyxy).abs().amax(dim=1) > _ROUNDING
    target = Target(classes[keep], xyxy_to_cxcywh(xyxy[keep]), packed)
    return target, int((past_edge & keep).sum())
