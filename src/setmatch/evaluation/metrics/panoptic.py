"""Panoptic quality (arXiv 1801.00868), identical to panopticapi's, in one pass over the pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from setmatch.data.annotations.mask_decoding import run_starts
from setmatch.data.dataset import DetectionDataset
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments


@dataclass(frozen=True, eq=False)
class PQStat:
    """Counts of matched, missed and false segments by class, which add up over images."""

    overlap: Float64[np.ndarray, " C"]  # sum of the IoU of matched segments
    tp: Int64[np.ndarray, " C"]
    fn: Int64[np.ndarray, " C"]
    fp: Int64[np.ndarray, " C"]

    @classmethod
    def zeros(cls, classes: int) -> "PQStat":
        """Return counts of 0."""
        counts = np.zeros(classes, dtype=np.int64)
        return cls(np.zeros(classes), counts, counts, counts)

    def __add__(self, other: "PQStat") -> "PQStat":
        return PQStat(
            self.overlap + other.overlap,
            self.tp + other.tp,
            self.fn + other.fn,
            self.fp + other.fp,
        )


@dataclass(frozen=True)
class Quality:
    """Panoptic, segmentation and recognition quality, 0..1, averaged over `classes` classes."""

    PQ: float
    SQ: float
    RQ: float
    classes: int


@dataclass(frozen=True)
class ClassQuality:
    """The qualities of one class, 0..1, and its matched, missed and false segments."""

    PQ: float
    SQ: float
    RQ: float
    tp: int
    fn: int
    fp: int


@dataclass(frozen=True)
class PanopticQuality:
    """PQ, SQ and RQ of all classes, of things, of stuff, and of each class."""

    all: Quality
    things: Quality
    stuff: Quality
    per_class: Mapping[str, ClassQuality]


def pq_stat(
    truth: Segments,
    crowd: Bool[np.ndarray, " G"],
    predicted: Segments,
    class_index_of: Int64[np.ndarray, " C"],
) -> PQStat:
    """Match the predicted segments of one image to the ground truth.

    `crowd` marks the segments of `truth` that are crowds. They are neither matched nor missed.
    `class_index_of` holds the data set's class index for every class index of the model, or -1 for
    a class that the data set does not have; predicted segments of such classes are ignored.

    Two segments match if they have the same class and an IoU above 0.5, computed without void
    pixels. A predicted segment that lies mostly on void or on a crowd of its class is not a false
    positive (arXiv 1801.00868, section 4). As in panopticapi, only the last crowd of a class in an
    image counts.
    """
    classes = len(truth.categories)
    truth_classes = truth.classes.numpy()
    predicted_classes = np.zeros(0, dtype=np.int64)
    if len(predicted):
        predicted_classes = class_index_of[predicted.classes.numpy()]
    shared = _intersections(truth, predicted)
    truth_area, predicted_area = shared.sum(axis=1), shared.sum(axis=0)
    on_void = shared[0]
    union = truth_area[1:, None] + predicted_area[1:] - shared[1:, 1:] - on_void[1:]
    iou = shared[1:, 1:] / np.maximum(union, 1)
    match = (iou > 0.5) & (truth_classes[:, None] == predicted_classes) & ~crowd[:, None]
    row, column = match.nonzero()
    fn = ~crowd & ~match.any(axis=1)
    ignored = on_void[1:] + _on_crowd(
        shared[1:, 1:], truth_classes, predicted_classes, crowd, classes
    )
    fp = ~match.any(axis=0) & (predicted_classes >= 0) & (2 * ignored <= predicted_area[1:])
    return PQStat(
        np.bincount(truth_classes[row], iou[row, column], classes).astype(np.float64),
        np.bincount(truth_classes[row], minlength=classes),
        np.bincount(truth_classes[fn], minlength=classes),
        np.bincount(predicted_classes[fp], minlength=classes),
    )


def all_missed(dataset: DetectionDataset, image: int) -> PQStat:
    """Return the counts of an image without predictions, without reading its PNG."""
    rows = slice(dataset.offsets[image], dataset.offsets[image + 1])
    missed = dataset.class_indices[rows][~dataset.crowd[rows]]
    classes = len(dataset.categories)
    return replace(PQStat.zeros(classes), fn=np.bincount(missed, minlength=classes))


def _intersections(truth: Segments, predicted: Segments) -> Int64[np.ndarray, "G1 S1"]:
    """Return the number of pixels that each pair of segments shares; row and column 0 are void."""
    truth_ids, predicted_ids = truth.ids.numpy().ravel(), predicted.ids.numpy().ravel()
    # Counting runs is faster: an image has about twenty times as many pixels as runs.
    starts = run_starts(truth_ids, predicted_ids)
    rows, columns = len(truth) + 1, len(predicted) + 1
    pairs = truth_ids[starts].astype(np.int64) * columns + predicted_ids[starts]
    lengths = np.diff(starts, append=len(truth_ids))
    return np.bincount(pairs, lengths, rows * columns).astype(np.int64).reshape(rows, columns)


def _on_crowd(
    shared: Int64[np.ndarray, "G S"],
    truth_classes: Int[np.ndarray, " G"],
    predicted_classes: Int[np.ndarray, " S"],
    crowd: Bool[np.ndarray, " G"],
    classes: int,
) -> Int64[np.ndarray, " S"]:
    """Return how many pixels of each predicted segment lie on the last crowd of its class."""
    crowd_of = np.full(classes + 1, -1)  # index -1 stands for classes that the data set lacks
    crowd_of[truth_classes[crowd]] = np.flatnonzero(crowd)
    row = crowd_of[predicted_classes]
    pixels = shared[row, np.arange(len(row))] if len(shared) else np.zeros_like(row)
    return np.where(row >= 0, pixels, 0)


def panoptic_quality(total: PQStat, categories: Categories) -> PanopticQuality:
    """Return the qualities of a whole data set; classes without any segment are in no mean."""
    denominator = total.tp + (total.fn + total.fp) / 2
    occurs = denominator > 0
    pq = total.overlap / np.where(occurs, denominator, 1)
    sq = total.overlap / np.maximum(total.tp, 1)
    rq = total.tp / np.where(occurs, denominator, 1)
    stuff = np.isin(np.arange(len(categories)), sorted(categories.stuff))

    def mean(chosen: Bool[np.ndarray, " C"]) -> Quality:
        if not chosen.any():
            return Quality(0.0, 0.0, 0.0, 0)
        PQ, SQ, RQ = (float(each[chosen].mean()) for each in (pq, sq, rq))
        return Quality(PQ, SQ, RQ, int(chosen.sum()))

    columns = (pq, sq, rq, total.tp, total.fn, total.fp)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return PanopticQuality(
        mean(occurs),
        mean(occurs & ~stuff),
        mean(occurs & stuff),
        {categories.name(class_index): ClassQuality(*row) for class_index, row in enumerate(rows)},
    )


def sum_stats(stats: Sequence[PQStat], classes: int) -> PQStat:
    """Return the summed counts of several images or processes."""
    return sum(stats, PQStat.zeros(classes))
