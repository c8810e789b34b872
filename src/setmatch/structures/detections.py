"""Detections of one image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from setmatch.structures.metadata import Categories
from setmatch.structures.packed_masks import PackedMasks


@dataclass(frozen=True)
class Detections:
    """Detections of one image, by descending score, in pixels of the original image.

    `masks` have the size of that image; None from a model without a mask head.
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
        """Return the detections with a score above `threshold`."""
        keep = self.scores > threshold
        return replace(
            self,
            xyxy_px=self.xyxy_px[keep],
            scores=self.scores[keep],
            classes=self.classes[keep],
            masks=None if self.masks is None else self.masks[keep],
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return dictionaries as in COCO results, with class names, ready for JSON.

        `bbox` is (x, y, width, height) in pixels; `segmentation`, if there are masks, is compressed
        COCO RLE.
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
                "category_id": self.categories.ids[class_index],
                "category_name": self.categories.name(class_index),
                **run,
            }
            for box, score, class_index, run in zip(
                xywh, self.scores.tolist(), self.classes.tolist(), runs, strict=True
            )
        ]

    @classmethod
    def from_dicts(
        cls, rows: Sequence[Mapping[str, Any]], categories: Categories, size_px: tuple[int, int]
    ) -> "Detections":
        """Read the result of `to_dicts`, or COCO results of one image, in any order.

        Raises KeyError for a category id that is not in `categories`.
        """
        class_index_of = {
            category_id: class_index for class_index, category_id in enumerate(categories.ids)
        }
        xywh = torch.tensor([each["bbox"] for each in rows], dtype=torch.float64).reshape(-1, 4)
        return cls._sorted(
            torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
            torch.tensor([each["score"] for each in rows]),
            torch.tensor([class_index_of[each["category_id"]] for each in rows], dtype=torch.int64),
            categories,
            size_px,
        )

    def to_torchvision(self) -> dict[str, Tensor]:
        """Return the output format of torchvision: boxes (xyxy in pixels), scores, labels.

        Labels are category ids, as in the annotation file.
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

        Raises KeyError for a label that is not in `categories`.
        """
        class_index_of = {
            category_id: class_index for class_index, category_id in enumerate(categories.ids)
        }
        class_indices = [class_index_of[label] for label in output["labels"].tolist()]
        return cls._sorted(
            output["boxes"].cpu(),
            output["scores"].cpu(),
            torch.tensor(class_indices, dtype=torch.int64),
            categories,
            size_px,
        )

    def to_supervision(self) -> dict[str, Any]:
        """Return keyword arguments: `supervision.Detections(**detections.to_supervision())`.

        Boxes are xyxy in pixels; `class_id` is the class index.
        """
        names = [self.categories.name(class_index) for class_index in self.classes.tolist()]
        return {
            "xyxy": self.xyxy_px.cpu().numpy(),
            "confidence": self.scores.cpu().numpy(),
            "class_id": self.classes.cpu().numpy(),
            "data": {"class_name": np.array(names, dtype=str)},
        }

    @classmethod
    def from_supervision(
        cls, detections: Any, categories: Categories, size_px: tuple[int, int]
    ) -> "Detections":
        """Read an object with supervision's attributes xyxy, confidence and class_id (index)."""
        class_indices = torch.as_tensor(np.asarray(detections.class_id, dtype=np.int64))
        known = (class_indices >= 0) & (class_indices < len(categories))
        assert bool(known.all()), "class_id is a class index"
        return cls._sorted(
            torch.as_tensor(np.asarray(detections.xyxy)).reshape(-1, 4),
            torch.as_tensor(np.asarray(detections.confidence)),
            class_indices,
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
