"""The nouns of the method: what passes between data, model, matching, criterion and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from setmatch.masks import PackedMasks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
        """Pad normalised float32 images (3, h, w) with zeros, at the bottom and right, to one size.

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


@dataclass(frozen=True)
class Predictions:
    """What every decoder layer believes; the last layer is the answer."""

    logits: Float[Tensor, "L B Q C"]
    cxcywh: Float[Tensor, "L B Q 4"]  # fractions of the unpadded image
    masks: Float[Tensor, "B Q h w"] | None = None  # logits of the last layer, a cell for 4x4 pixels


@dataclass(frozen=True)
class Assignment:
    """Which query of which image answers for which target, numbered across the batch.

    `query` counts within its image; `target` counts through the concatenated targets of the batch.
    """

    image: Int[Tensor, " M"]
    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]


@runtime_checkable
class MasksOf(Protocol):
    """Makes the masks of chosen queries, of the last layer: a pair of image and query for each."""

    def __call__(
        self, image: Int[Tensor, " M"], query: Int[Tensor, " M"]
    ) -> Float[Tensor, "M h w"]:
        """Return logits, a cell for 4x4 pixels."""


@dataclass(frozen=True)
class Stream:
    """Predictions to be trained, and their assignment where it is known beforehand (denoising).

    A known assignment may hold every target several times: `repeats`. A model in training makes
    masks only of the queries that are to learn one, by `masks_of`; otherwise the predictions have
    all of them.
    """

    name: str
    predictions: Predictions
    assignment: Assignment | None = None
    repeats: int = 1
    masks_of: MasksOf | None = None


@dataclass(frozen=True)
class Categories:
    """The classes a model or data set knows: slot i of the logits is `names[i]`, id `ids[i]`.

    A slot that no class uses (the holes of the published COCO weights) has the name None. `stuff`
    are the slots of what is not counted, such as sky and grass; all others are things.
    """

    ids: tuple[int, ...]
    names: tuple[str | None, ...]
    stuff: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.names), "one id for every name"
        assert self.stuff <= set(range(len(self.ids))), "stuff is a part of the slots"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, slot: int) -> str:
        """Return the name of class slot `slot`; a hole answers with its id."""
        return self.names[slot] or f"class {self.ids[slot]}"


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a photograph before the model sees it.

    The short side becomes `short_side_px` unless the long side would pass `long_side_px`; pixels
    are scaled to 0..1 and normalised with `mean` and `std` (RGB).
    """

    short_side_px: int = 800
    long_side_px: int = 1333
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


@dataclass(frozen=True)
class Card:
    """All that is needed to build a model again and to use its answers; stored beside its weights.

    `arguments` are the keyword arguments of the preset besides the number of classes.
    """

    preset: str
    arguments: Mapping[str, Any]
    categories: Categories
    preprocessing: Preprocessing = Preprocessing()
    licence: str = "unknown"
    source: str = ""


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first, in pixels of the original image.

    `masks` are in the size of that image; None from a model without a mask head.
    """

    xyxy_px: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    classes: Int[Tensor, " N"]
    categories: Categories
    size_px: tuple[int, int]  # height, width of the original image
    masks: PackedMasks | None = None

    def __len__(self) -> int:
        return self.scores.shape[0]

    def above(self, threshold: float) -> "Detections":
        """Return only the detections whose score is greater than `threshold`."""
        keep = self.scores > threshold
        return replace(
            self,
            xyxy_px=self.xyxy_px[keep],
            scores=self.scores[keep],
            classes=self.classes[keep],
            masks=None if self.masks is None else self.masks[keep],
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return plain dictionaries as in COCO results, with the class name beside its id.

        `bbox` is (x, y, width, height) in pixels, `segmentation`, where there are masks, COCO's
        compressed run lengths; every number is a Python number.
        """
        runs: list[dict[str, Any]] = [{} for _ in self.scores]
        if self.masks is not None:
            runs = [{"segmentation": each} for each in self.masks.to_coco()]
        xyxy = self.xyxy_px.double()
        xywh = torch.cat([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], dim=1).tolist()
        return [
            {
                "bbox": box,
                "score": score,
                "category_id": self.categories.ids[slot],
                "category_name": self.categories.name(slot),
                **run,
            }
            for box, score, slot, run in zip(
                xywh, self.scores.tolist(), self.classes.tolist(), runs, strict=True
            )
        ]

    @classmethod
    def from_dicts(
        cls, found: Sequence[Mapping[str, Any]], categories: Categories, size_px: tuple[int, int]
    ) -> "Detections":
        """Read what `to_dicts` returns, or COCO results of one image, in any order.

        Raises KeyError for a category id that `categories` does not hold.
        """
        slot_of = {category_id: slot for slot, category_id in enumerate(categories.ids)}
        xywh = torch.tensor([each["bbox"] for each in found], dtype=torch.float64).reshape(-1, 4)
        return cls._sorted(
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
            torch.tensor([each["score"] for each in found]),
            torch.tensor([slot_of[each["category_id"]] for each in found], dtype=torch.int64),
            categories,
            size_px,
        )

    def to_torchvision(self) -> dict[str, Tensor]:
        """Return what torchvision's detectors return: boxes (xyxy, pixels), scores, labels.

        Labels are category ids, as the annotation file numbers its classes.
        """
        ids = torch.tensor(self.categories.ids, dtype=torch.int64)
        return {
            "boxes": self.xyxy_px,
            "scores": self.scores,
            "labels": ids[self.classes.cpu()].to(self.classes.device),
        }

    @classmethod
    def from_torchvision(
        cls, output: Mapping[str, Tensor], categories: Categories, size_px: tuple[int, int]
    ) -> "Detections":
        """Read one image's output of a torchvision detector whose labels are category ids.

        Raises KeyError for a label that `categories` does not hold.
        """
        slot_of = {category_id: slot for slot, category_id in enumerate(categories.ids)}
        slots = [slot_of[label] for label in output["labels"].tolist()]
        return cls._sorted(
            output["boxes"].cpu(),
            output["scores"].cpu(),
            torch.tensor(slots, dtype=torch.int64),
            categories,
            size_px,
        )

    def to_supervision(self) -> dict[str, Any]:
        """Return keyword arguments: `supervision.Detections(**found.to_supervision())`.

        Boxes are xyxy in pixels; class_id is the slot, counted from 0 as supervision counts.
        """
        names = [self.categories.name(slot) for slot in self.classes.tolist()]
        return {
            "xyxy": self.xyxy_px.cpu().numpy(),
            "confidence": self.scores.cpu().numpy(),
            "class_id": self.classes.cpu().numpy(),
            "data": {"class_name": np.array(names, dtype=str)},
        }

    @classmethod
    def from_supervision(
        cls, found: Any, categories: Categories, size_px: tuple[int, int]
    ) -> "Detections":
        """Read an object with supervision's attributes xyxy, confidence and class_id (slots)."""
        slots = torch.as_tensor(np.asarray(found.class_id, dtype=np.int64))
        assert not len(slots) or 0 <= int(slots.min()) <= int(slots.max()) < len(categories), (
            "supervision's class_id counts the classes from 0"
        )
        return cls._sorted(
            torch.as_tensor(np.asarray(found.xyxy)).reshape(-1, 4),
            torch.as_tensor(np.asarray(found.confidence)),
            slots,
            categories,
            size_px,
        )

    @classmethod
    def _sorted(
        cls,
        xyxy_px: Tensor,
        scores: Tensor,
        classes: Tensor,
        categories: Categories,
        size_px: tuple[int, int],
    ) -> "Detections":
        order = scores.argsort(descending=True, stable=True)
        return cls(
            xyxy_px[order].float(), scores[order].float(), classes[order], categories, size_px
        )
