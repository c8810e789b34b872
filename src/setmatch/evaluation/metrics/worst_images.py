"""Find the images with the worst errors, of boxes and of segments, for the report to show."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64

from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.panoptic import PQStat
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments

MAX_SEGMENTATIONS = 12  # images whose segments are kept for the report


@dataclass(frozen=True)
class WorstImage:
    """An image, by its index in the data set, and its detections above the thresholds."""

    image: int
    name: str
    true_positives: int
    false_negatives: int
    false_positives: int


@dataclass(frozen=True, eq=False)
class WorstSegmentation:
    """An image, by its index in the data set, its predicted segments, and their PQ counts."""

    image: int
    predicted: Segments
    pq_stat: PQStat

    @property
    def denominator(self) -> float:
        """TP + FN/2 + FP/2, by which PQ divides the summed IoU."""
        counts = self.pq_stat
        return float((counts.tp + (counts.fn + counts.fp) / 2).sum())

    @property
    def weight(self) -> float:
        """Missing quality, weighted by its fraction of the image's segments.

        The weight ranks neither crowded images with few errors nor images of a single segment
        first.
        """
        missing = self.denominator - float(self.pq_stat.overlap.sum())
        return missing**2 / max(self.denominator, 1)


def worst_images(matched_detections: MatchedDetections, most: int) -> tuple[WorstImage, ...]:
    """Return at most `most` images with errors, worst first.

    Errors are weighted by their fraction of the image's objects. This ranks neither crowded images
    with few errors nor images of a single missed object first.
    """
    dataset, images = matched_detections.index, len(matched_detections.index)
    image_of_object = np.repeat(np.arange(images), np.diff(dataset.offsets))
    objects = np.bincount(image_of_object[~dataset.crowd], minlength=images)
    matched = matched_detections.truth[matched_detections.shown & matched_detections.right]
    true_positives = np.bincount(image_of_object[matched], minlength=images)
    wrong = matched_detections.shown & ~matched_detections.right
    by_id = dataset.image_ids.argsort()
    image_of_wrong = by_id[
        np.searchsorted(dataset.image_ids[by_id], matched_detections.results.image_ids[wrong])
    ]
    false_positives = np.bincount(image_of_wrong, minlength=images)
    errors = objects - true_positives + false_positives
    weight = errors**2 / np.maximum(errors + true_positives, 1)
    return tuple(
        WorstImage(
            image,
            dataset.name(image),
            int(true_positives[image]),
            int(objects[image] - true_positives[image]),
            int(false_positives[image]),
        )
        for image in (-weight).argsort(kind="stable")[:most].tolist()
        if errors[image]
    )


def worst_segmentations(candidates: Sequence[WorstSegmentation]) -> list[WorstSegmentation]:
    """Return at most `MAX_SEGMENTATIONS` images with errors, worst first."""
    order = sorted(candidates, key=lambda each: (-each.weight, each.image))
    return [each for each in order[:MAX_SEGMENTATIONS] if each.weight > 0]


def with_dataset_classes(
    predicted: Segments, class_index_of: Int64[np.ndarray, " C"], categories: Categories
) -> Segments:
    """Return segments with the classes of a data set; segments of other classes are removed.

    `class_index_of` holds the data set's class index for every class index of the model, or -1.
    """
    class_indices = torch.from_numpy(class_index_of)[predicted.classes.long()]
    known = class_indices >= 0
    new_id = torch.cat([known.new_zeros(1).long(), known.cumsum(0) * known])
    return replace(
        predicted,
        ids=new_id[predicted.ids.long()].int(),
        classes=class_indices[known],
        scores=predicted.scores[known],
        categories=categories,
    )
