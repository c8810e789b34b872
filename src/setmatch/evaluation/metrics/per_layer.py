"""AP after each decoder layer, with and without non-maximum suppression (NMS).

It reproduces the paper's figure 4: NMS helps the first layer, whose self-attention has seen no
boxes yet, and slightly hurts the last (arXiv 2005.12872, section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torchvision.ops import batched_nms

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.coco import Results, average_precision

NMS_IOU = 0.5  # a box with a higher IoU with a better box of its class is dropped


@dataclass(frozen=True)
class LayerPrecision:
    """AP and AP50 after decoder layer `layer`, counted from 1, without and with NMS."""

    layer: int
    AP: float
    AP50: float
    AP_with_nms: float
    AP50_with_nms: float


@dataclass(frozen=True, eq=False)
class PerLayerDetections:
    """The detections of decoder layers, and which of them survive NMS.

    Unless a diagnosis is requested, `layers` holds only the last layer, and `survivors` is empty.
    """

    layers: tuple[Results, ...]
    survivors: tuple[Bool[np.ndarray, " _"], ...] = ()

    @property
    def results(self) -> Results:
        """The detections of the last layer, which are those of the model."""
        return self.layers[-1] if self.layers else Results.concatenate(())

    @classmethod
    def concatenate(cls, parts: Sequence["PerLayerDetections"]) -> "PerLayerDetections":
        """Concatenate the detections of several batches or processes, sorted by image id."""
        parts = [part for part in parts if part.layers]  # a process may have no images
        layers = tuple(
            Results.concatenate(layer)
            for layer in zip(*(part.layers for part in parts), strict=True)
        )
        survivors = []
        for number in range(len(parts[0].survivors) if parts else 0):
            ids = np.concatenate([part.layers[number].image_ids for part in parts])
            survives = np.concatenate([part.survivors[number] for part in parts])
            survivors.append(survives[ids.argsort(kind="stable")])
        return cls(layers, tuple(survivors))


def survives_nms(results: Results) -> Bool[np.ndarray, " D"]:
    """Return which detections survive NMS, applied to each class of each image."""
    corner, size = results.xywh_px[:, :2], results.xywh_px[:, 2:]
    xyxy_px = torch.from_numpy(np.concatenate([corner, corner + size], axis=1))
    _, image = np.unique(results.image_ids, return_inverse=True)
    group = image.reshape(-1) * (results.class_indices.max(initial=0) + 1) + results.class_indices
    kept = batched_nms(
        xyxy_px, torch.from_numpy(results.scores), torch.from_numpy(group), iou_threshold=NMS_IOU
    )
    survives = np.zeros(len(results), dtype=bool)
    survives[kept.numpy()] = True
    return survives


def layer_precision(
    dataset: DetectionDataset, detections: PerLayerDetections, max_detections: int
) -> tuple[LayerPrecision, ...]:
    """Return the AP of every decoder layer, with and without NMS; empty without `survivors`."""
    if not detections.survivors:
        return ()
    layers = []
    for number, (results, survives) in enumerate(
        zip(detections.layers, detections.survivors, strict=True), start=1
    ):
        raw = average_precision(dataset, results, max_detections)
        suppressed = average_precision(dataset, results.select(survives), max_detections)
        layers.append(LayerPrecision(number, raw.AP, raw.AP50, suppressed.AP, suppressed.AP50))
    return tuple(layers)
