"""All detections of a split, from a model or a file, before they are measured."""

from dataclasses import dataclass

import numpy as np

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.panoptic import PQStat
from setmatch.evaluation.metrics.per_layer import PerLayerDetections
from setmatch.evaluation.metrics.worst_images import WorstSegmentation

COCO_LIMIT = 100  # detections per class and image that COCO counts


@dataclass(frozen=True)
class SplitDetections:
    """All detections of a split, and the facts about them that a report needs.

    `name` names the model or file. `max_per_image` is the largest number of detections of an image.
    `unknown` are the data set's classes that the model does not have. `pq_stat` holds the panoptic
    counts if segments were compared, and `worst` the images with the worst segments. `notes` are
    warnings about the numbers, and `unreadable` describes the images that could not be read.
    """

    name: str
    per_layer: PerLayerDetections
    max_per_image: int
    unknown: tuple[str, ...] = ()
    pq_stat: PQStat | None = None
    worst: tuple[WorstSegmentation, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    def default_limit(self, dataset: DetectionDataset) -> int:
        """Return how many detections per class and image are counted by default.

        It is COCO's 100, or `max_per_image` if an image of the data set has more than 100 objects.
        """
        crowded = int(np.diff(dataset.offsets).max(initial=0)) > COCO_LIMIT
        return max(COCO_LIMIT, self.max_per_image) if crowded else COCO_LIMIT
