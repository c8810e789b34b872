"""Turn an image and its objects into model input: resizing, augmentation, normalization."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, Image, Mask

from setmatch.errors import ConfigError
from setmatch.ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from setmatch.ops.image_size import evaluation_px, resized_px
from setmatch.structures.batch import Target
from setmatch.structures.metadata import Preprocessing
from setmatch.structures.packed_masks import PackedMasks

__all__ = [
    "Augmentation",
    "ColorJitter",
    "CropAroundObjects",
    "RandomResize",
    "RandomScale",
    "RandomSizeCrop",
    "RandomZoom",
    "evaluation_px",
    "mosaic_transform",
    "normalize",
    "preprocess",
    "resized_px",
    "training_transform",
    "weak_augmentation",
]

# The boxes of an image; its masks, where they are used, come second.
Objects: TypeAlias = BoundingBoxes | Mask
Scene = tuple[Image | Objects, ...]
Step = Callable[..., Scene]
Transform = Callable[[UInt8[Tensor, "3 H W"], Target], tuple[Float[Tensor, "3 h w"], Target, int]]

_PUBLISHED = Preprocessing()
_SHORT_SIDES_PX = tuple(range(480, 801, 32))
_SHORT_SIDES_BEFORE_CROP_PX = (400, 500, 600)
_CROP_SIDES_PX = (384, 600)
_FACTORS = (*(number / 20 for number in range(15, 26)), 1.0, 1.0)
_ROUNDING = 1e-5  # fraction of a side by which a box may cross the edge and not count as clipped
_GRAY = (0.299, 0.587, 0.114)  # luma weights of red, green and blue (ITU-R BT.601)


def preprocess(
    image: UInt8[Tensor, "3 H W"],
    preprocessing: Preprocessing,
    size_px: tuple[int, int] | None = None,
) -> Float[Tensor, "3 h w"]:
    """Resize and normalize an image for evaluation or prediction.

    `size_px` overrides the size from `evaluation_px`.
    """
    height, width = image.shape[1:]
    target_px = size_px or evaluation_px((height, width), preprocessing)
    return normalize(F.resize(image, list(target_px), antialias=True), preprocessing)


def normalize(
    image: UInt8[Tensor, "3 h w"], preprocessing: Preprocessing
) -> Float[Tensor, "3 h w"]:
    """Scale an image to [0, 1] and normalize it by mean and standard deviation, in float32."""
    scale, shift = _scale_and_shift(preprocessing)
    # In place, because allocating intermediate results would take longer than the arithmetic.
    return torch.empty(image.shape).copy_(image).mul_(scale).sub_(shift)


@lru_cache(maxsize=8)
def _scale_and_shift(
    preprocessing: Preprocessing,
) -> tuple[Float[Tensor, "3 1 1"], Float[Tensor, "3 1 1"]]:
    """Return the factor of each channel's bytes, and what to subtract from the product."""
    statistics = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    scale = torch.tensor([1 / (255 * std) for _, std in statistics])
    shift = torch.tensor([mean / std for mean, std in statistics])
    return scale[:, None, None], shift[:, None, None]


@dataclass(frozen=True)
class RandomFlip:
    """Mirror half of the images, left to right.

    Draws as v2.RandomHorizontalFlip does, whose inspection of its inputs takes longer than the
    flip of a small image.
    """

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Mirror the image and its objects, or neither."""
        if torch.rand(1) >= 0.5:
            return (image, *objects)
        return tuple(F.horizontal_flip(each) for each in (image, *objects))


@dataclass(frozen=True)
class RandomResize:
    """Resize by the rule of `resized_px`, with a short side drawn from `short_sides_px`."""

    short_sides_px: tuple[int, ...]
    long_px: int

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Resize the image and its objects."""
        short_px = self.short_sides_px[_draw(0, len(self.short_sides_px) - 1)]
        height, width = image.shape[-2:]
        size_px = list(resized_px((height, width), short_px, self.long_px))
        return _resized(size_px, image, *objects)


@dataclass(frozen=True)
class RandomSizeCrop:
    """Crop a window whose sides are drawn from min..max (at most the image's side)."""

    min_px: int
    max_px: int

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Crop the image and its objects."""
        sides = image.shape[-2:]
        cut = [_draw(min(self.min_px, side), min(self.max_px, side)) for side in sides]
        corner = [_draw(0, side - kept) for side, kept in zip(sides, cut, strict=True)]
        return tuple(F.crop(each, *corner, *cut) for each in (image, *objects))


@dataclass(frozen=True)
class RandomZoom:
    """Zoom in by cropping or out by padding, keep the aspect ratio, and resize as for evaluation.

    The window's sides are the image's times a factor whose logarithm is uniform in
    [-`reach`, `reach`]. A window larger than the image is padded with `fill`.
    """

    reach: float
    fill: tuple[int, ...]
    preprocessing: Preprocessing

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Crop or pad the image and its objects at random, then resize them."""
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
    """Change brightness, contrast and saturation, each by a factor in [1 - `reach`, 1 + `reach`].

    All three are linear in the colors: one 3×3 matrix replaces the three passes of v2.ColorJitter
    and takes a quarter of the time. Hue stays, because colors carry meaning.
    """

    reach: float

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Change the colors of the image; values stay in 0..255."""
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
        jittered = torch.addmm(middle.expand(3, 1), colors, pixels).clamp_(0, 255)
        return Image(jittered.to(torch.uint8).view(image.shape)), *objects


@dataclass(frozen=True)
class CropAroundObjects:
    """Crop a window in which objects keep some of their box; an image without objects stays.

    Objects whose center lies outside of the window lose their area, and are dropped at the end.
    """

    crop: v2.RandomIoUCrop = field(default_factory=v2.RandomIoUCrop)

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Crop the image and its objects."""
        if not len(objects[0]):
            return (image, *objects)
        scene: Scene = self.crop(image, *objects)
        return scene


@dataclass(frozen=True)
class RandomScale:
    """Resize as for evaluation, times a factor of 3/4 to 5/4 in steps of 1/20.

    The factor 1 is three times as likely as any other, as in the published training of D-FINE.
    """

    preprocessing: Preprocessing

    def __call__(self, image: Image, *objects: Objects) -> Scene:
        """Resize the image and its objects."""
        factor = _FACTORS[_draw(0, len(_FACTORS) - 1)]
        short, long_px = self.preprocessing.short_side_px, self.preprocessing.long_side_px
        sides = _scaled((short, long_px), factor)
        height, width = image.shape[-2:]
        return _resized(list(resized_px((height, width), *sides)), image, *objects)


@dataclass(frozen=True)
class Augmentation:
    """A pipeline of augmentation steps, followed by normalization.

    A class rather than a closure, so that it can be pickled for spawned workers.
    """

    pipeline: v2.Compose
    preprocessing: Preprocessing

    def __call__(
        self, image: UInt8[Tensor, "3 H W"], target: Target
    ) -> tuple[Float[Tensor, "3 h w"], Target, int]:
        """Return the augmented image and target, and how many boxes were clipped.

        Boxes that cross the edge of the augmented image are clipped; those outside it are dropped.
        """
        height, width = image.shape[1:]
        boxes = BoundingBoxes(
            cxcywh_to_xyxy(target.cxcywh) * _sides(height, width),
            format=BoundingBoxFormat.XYXY,
            canvas_size=(height, width),
            clamping_mode=None,  # clipped at the end, where it can be counted
        )
        masks = [] if target.masks is None else [_masks(target.masks, (height, width))]
        pixels, boxes, *masks = self.pipeline(Image(image), boxes, *masks)
        augmented, clipped = _target(target.classes, boxes, *masks)
        return normalize(pixels.as_subclass(Tensor), self.preprocessing), augmented, clipped


def training_transform(augment: str, preprocessing: Preprocessing) -> Transform:
    """Return the augmentation called `augment`, which ends with resizing and normalization.

    "detr" is the published augmentation (arXiv 2005.12872, appendix A.4), with its sides scaled
    from 800 and 1333 to those of `preprocessing`. "small" suits some hundred images: a horizontal
    flip, and for half of the images random zoom, shift and colors. "ssd" is that of arXiv
    1512.02325, section 3.6, as RT-DETR, D-FINE and DEIM take it from torchvision: distorted colors,
    zooming out onto black, a crop in which objects keep some of their box, and a flip;
    "ssd_any_size" also resizes to 3/4 to 5/4 of the size. "flip" only flips half of the
    images, which is enough for a few epochs. "none" only resizes. All draw from torch's generator.
    Raises ConfigError for other names.
    """
    pipelines: dict[str, Callable[[Preprocessing], list[Step]]] = {
        "detr": published,
        "small": _small_data,
        "flip": _flip,
        "none": _resize_only,
        "ssd": _ssd,
        "ssd_any_size": _ssd_any_size,
    }
    if augment not in pipelines:
        raise ConfigError(
            f"data.augment = {augment!r} is unknown; choose one of {', '.join(pipelines)}"
        )
    return Augmentation(v2.Compose(pipelines[augment](preprocessing)), preprocessing)


def mosaic_transform(augment: str, preprocessing: Preprocessing) -> Transform:
    """Return the augmentation of mosaics, which are scaled already: "ssd" zooms and crops none."""
    ends: dict[str, list[Step]] = {
        "ssd": _flip(preprocessing),
        "ssd_any_size": [RandomFlip(), RandomScale(preprocessing)],
    }
    if augment not in ends:
        return training_transform(augment, preprocessing)
    return Augmentation(v2.Compose([_distorted_colors(), *ends[augment]]), preprocessing)


def weak_augmentation(augment: str) -> str:
    """Return the augmentation for the first epochs: at most a horizontal flip."""
    return "none" if augment == "none" else "flip"


def published(preprocessing: Preprocessing) -> list[Step]:
    """Return the steps of the published augmentation, scaled to the sides of `preprocessing`."""
    short = preprocessing.short_side_px / _PUBLISHED.short_side_px
    long_px = preprocessing.long_side_px
    resize = RandomResize(_scaled(_SHORT_SIDES_PX, short), long_px)
    # The published resize before the crop has no maximum side. Four times the usual one keeps
    # panoramas from filling the memory.
    before_crop = RandomResize(_scaled(_SHORT_SIDES_BEFORE_CROP_PX, short), 4 * long_px)
    crop = RandomSizeCrop(*_scaled(_CROP_SIDES_PX, short))
    return [
        RandomFlip(),
        v2.RandomChoice([resize, v2.Compose([before_crop, crop, resize])]),
    ]


def _small_data(preprocessing: Preprocessing) -> list[Step]:
    gray = tuple(round(255 * mean) for mean in preprocessing.mean)
    strong = v2.Compose([RandomZoom(0.35, gray, preprocessing), ColorJitter(0.3)])
    # Half of the images stay unchanged: with only a hundred images, a model that sees each one
    # changed every time learns slowly.
    return [
        RandomFlip(),
        v2.RandomChoice([strong, v2.Compose(_resize_only(preprocessing))]),
    ]


def _ssd(preprocessing: Preprocessing) -> list[Step]:
    return [
        _distorted_colors(),
        v2.RandomZoomOut(fill=0),
        v2.RandomApply([CropAroundObjects()], p=0.8),
        *_flip(preprocessing),
    ]


def _ssd_any_size(preprocessing: Preprocessing) -> list[Step]:
    return [*_ssd(preprocessing)[:-1], RandomScale(preprocessing)]


def _distorted_colors() -> Step:
    distort: Step = v2.RandomPhotometricDistort(p=0.5)
    return distort


def _flip(preprocessing: Preprocessing) -> list[Step]:
    return [RandomFlip(), *_resize_only(preprocessing)]


def _resize_only(preprocessing: Preprocessing) -> list[Step]:
    return [RandomResize((preprocessing.short_side_px,), preprocessing.long_side_px)]


def _scaled(sides_px: tuple[int, ...], factor: float) -> tuple[int, ...]:
    return tuple(max(round(side * factor), 1) for side in sides_px)


def _draw(low: int, high: int) -> int:
    """Return a random integer from `low` to `high`, both included, from torch's generator."""
    return int(torch.randint(low, high + 1, ()))


def _split(spare: int) -> tuple[int, int]:
    """Split surplus pixels, or missing ones if negative, at random between both ends of a side."""
    first = _draw(0, abs(spare))
    return (first, spare - first) if spare > 0 else (-first, spare + first)


@lru_cache(maxsize=64)
def _sides(height: int, width: int) -> Int[Tensor, "4"]:
    """Return what to multiply normalized corners by to get pixels."""
    return torch.tensor([width, height, width, height])


def _resized(size_px: list[int], image: Image, *objects: Objects) -> Scene:
    if list(image.shape[-2:]) == size_px:  # and so are its objects
        return (image, *objects)
    return (
        F.resize(image, size_px, antialias=True),
        *(F.resize(each, size_px) for each in objects),
    )


def _masks(masks: PackedMasks, size_px: tuple[int, int]) -> Mask:
    """Return masks in the size of their image, which may be smaller than annotated."""
    planes = Mask(masks.planes())
    return planes if planes.shape[1:] == size_px else F.resize(planes, list(size_px))


def _target(classes: Tensor, boxes: BoundingBoxes, masks: Mask | None = None) -> tuple[Target, int]:
    """Return the objects that still have an area, and how many of their boxes were clipped.

    Boxes are clipped to the canvas and normalized by its size.
    """
    unclipped = boxes.as_subclass(Tensor) / _sides(*boxes.canvas_size)
    xyxy = unclipped.clamp(0, 1)
    keep = (xyxy[:, 2:] > xyxy[:, :2]).all(dim=1)
    packed = None
    if masks is not None:
        packed = PackedMasks.from_planes(masks.as_subclass(Tensor), len(classes))
        keep &= packed.any()
        packed = packed[keep]
    crosses_edge = (unclipped - xyxy).abs().amax(dim=1) > _ROUNDING
    target = Target(classes[keep], xyxy_to_cxcywh(xyxy[keep]), packed)
    return target, int((crosses_edge & keep).sum())
