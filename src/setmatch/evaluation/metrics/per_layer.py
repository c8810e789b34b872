"""What each decoder layer answers, and what suppressing doubles (NMS) would make of it.

The paper's figure 4: NMS helps the first layer, whose queries cannot see each other yet, and
slightly hurts the last (arXiv 2005.12872, section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torchvision.ops import batched_nms

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.average_precision import Results, average_precision

NMS_IOU = 0.5  # a box that overlaps a better one of its class by more is dropped


@dataclass(frozen=True)
class LayerPrecision:
    """AP and AP50 after decoder layer `layer`, the first being 1, as it is and after NMS."""

    layer: int
    AP: float
    AP50: float
    AP_with_nms: float
    AP50_with_nms: float


@dataclass(frozen=True, eq=False)
class PerLayerDetections:
    """What the decoder layers answer, in flat arrays, and which of it NMS would leave.

    Of an ordinary evaluation `layers` holds the last alone, and `survivors` nothing.
    """

    layers: tuple[Results, ...]
    survivors: tuple[Bool[np.ndarray, " _"], ...] = ()

    @property
    def results(self) -> Results:
        """The answer: what the last layer says."""
        return self.layers[-1] if self.layers else Results.joined(())

    @classmethod
    def joined(cls, parts: Sequence["PerLayerDetections"]) -> "PerLayerDetections":
        """Put the answers of several batches or processes together, in order of image ids."""
        parts = [part for part in parts if part.layers]  # a process may have had no image
        layers = tuple(
            Results.joined(layer) for layer in zip(*(part.layers for part in parts), strict=True)
        )
        survivors = []
        for number in range(len(parts[0].survivors) if parts else 0):
            ids = np.concatenate([part.layers[number].image_ids for part in parts])
            kept = np.concatenate([part.survivors[number] for part in parts])
            survivors.append(kept[ids.argsort(kind="stable")])
        return cls(layers, tuple(survivors))


def survives_nms(results: Results) -> Bool[np.ndarray, " D"]:
    """Say which detections are left when each class of each image is rid of its doubles."""
    low, extent = results.xywh_px[:, :2], results.xywh_px[:, 2:]
    boxes = torch.from_numpy(np.concatenate([low, low + extent], axis=1))
    _, image = np.unique(results.image_ids, return_inverse=True)
    group = image.reshape(-1) * (results.class_indices.max(initial=0) + 1) + results.class_indices
    left = batched_nms(
        boxes, torch.from_numpy(results.scores), torch.from_numpy(group), iou_threshold=NMS_IOU
    )
    kept = np.zeros(len(results), dtype=bool)
    kept[left.numpy()] = True
    return kept


def layer_precision(
    index: DetectionDataset, answers: PerLayerDetections, max_detections: int
) -> tuple[LayerPrecision, ...]:
    """Return the AP of every decoder layer that was heard, with and without NMS."""
    if not answers.survivors:
        return ()
    found = []
    for number, (results, kept) in enumerate(
        zip(answers.layers, answers.survivors, strict=True), start=1
    ):
        plain = average_precision(index, results, max_detections)
        single = average_precision(index, results.only(kept), max_detections)
        found.append(LayerPrecision(number, plain.AP, plain.AP50, single.AP, single.AP50))
    return tuple(found)
