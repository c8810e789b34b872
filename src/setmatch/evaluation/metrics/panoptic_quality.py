"""Panoptic quality: panopticapi's numbers, counted image by image in one pass over the pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.data.mask_decoding import run_starts
from setmatch.structures.metadata import Categories
from setmatch.structures.segments import Segments


@dataclass(frozen=True, eq=False)
class PQStat:
    """What was matched and missed, by class slot of the data set; tallies add up over images."""

    overlap: Float64[np.ndarray, " C"]  # IoU of the matched segments, summed
    tp: Int64[np.ndarray, " C"]
    fn: Int64[np.ndarray, " C"]
    fp: Int64[np.ndarray, " C"]

    @classmethod
    def nothing(cls, classes: int) -> "PQStat":
        """Return the tally of no image."""
        zeros = np.zeros(classes, dtype=np.int64)
        return cls(np.zeros(classes), zeros, zeros, zeros)

    def __add__(self, other: "PQStat") -> "PQStat":
        return PQStat(
            self.overlap + other.overlap,
            self.tp + other.tp,
            self.fn + other.fn,
            self.fp + other.fp,
        )


@dataclass(frozen=True)
class Quality:
    """Panoptic, segmentation and recognition quality, 0..1; means over `classes` classes."""

    PQ: float
    SQ: float
    RQ: float
    classes: int


@dataclass(frozen=True)
class ClassQuality:
    """The qualities of one class, 0..1, and how many segments were matched, missed, invented."""

    PQ: float
    SQ: float
    RQ: float
    tp: int
    fn: int
    fp: int


@dataclass(frozen=True)
class PanopticQuality:
    """PQ, SQ and RQ of all classes, of things and of stuff, and of every class."""

    all: Quality
    things: Quality
    stuff: Quality
    per_class: Mapping[str, ClassQuality]


def pq_stat(
    truth: Segments,
    crowd: Bool[np.ndarray, " G"],
    found: Segments,
    class_index_of: Int64[np.ndarray, " C"],
) -> PQStat:
    """Compare what was found in one image with what is there.

    `crowd` says which segments of `truth` are crowds: they match nothing and are missed by nobody.
    `class_index_of` holds, for every class slot of the model, the slot of the data set, or -1 for
    a class
    that the data set does not know: what was found of it counts as nothing. Two segments match when
    they agree in class and their IoU, in which void counts for nobody, is above a half; what lies
    mostly on void or on a crowd of its class is not invented (arXiv 1801.00868, section 4, and
    panopticapi's code, which knows one crowd of a class in an image, the last).
    """
    classes = len(truth.categories)
    truths = truth.classes.numpy()
    founds = class_index_of[found.classes.numpy()] if len(found) else np.zeros(0, dtype=np.int64)
    shared = _shared(truth, found)
    area, found_area = shared.sum(axis=1), shared.sum(axis=0)
    on_void = shared[0]
    union = area[1:, None] + found_area[1:] - shared[1:, 1:] - on_void[1:]
    iou = shared[1:, 1:] / np.maximum(union, 1)
    pair = (iou > 0.5) & (truths[:, None] == founds) & ~crowd[:, None]
    row, column = pair.nonzero()
    fn = ~crowd & ~pair.any(axis=1)
    excused = on_void[1:] + _on_crowd(shared[1:, 1:], truths, founds, crowd, classes)
    fp = ~pair.any(axis=0) & (founds >= 0) & (2 * excused <= found_area[1:])
    return PQStat(
        np.bincount(truths[row], iou[row, column], classes).astype(np.float64),
        np.bincount(truths[row], minlength=classes),
        np.bincount(truths[fn], minlength=classes),
        np.bincount(founds[fp], minlength=classes),
    )


def all_missed(index: DetectionDataset, image: int) -> PQStat:
    """Return the tally of image number `image`, about which nothing was said; no PNG is read."""
    rows = slice(index.offsets[image], index.offsets[image + 1])
    fn = index.class_indices[rows][~index.crowd[rows]]
    nothing = PQStat.nothing(len(index.categories))
    return replace(nothing, fn=np.bincount(fn, minlength=len(index.categories)))


def _shared(truth: Segments, found: Segments) -> Int64[np.ndarray, "G1 S1"]:
    """Return how many pixels each segment of `truth` shares with each found one; 0 is nothing."""
    there, answer = truth.ids.numpy().ravel(), found.ids.numpy().ravel()
    # Counted run by run: a picture has twenty times as many pixels.
    starts = run_starts(there, answer)
    rows, columns = len(truth) + 1, len(found) + 1
    both = there[starts].astype(np.int64) * columns + answer[starts]
    lengths = np.diff(starts, append=len(there))
    return np.bincount(both, lengths, rows * columns).astype(np.int64).reshape(rows, columns)


def _on_crowd(
    shared: Int64[np.ndarray, "G S"],
    truths: Int[np.ndarray, " G"],
    founds: Int[np.ndarray, " S"],
    crowd: Bool[np.ndarray, " G"],
    classes: int,
) -> Int64[np.ndarray, " S"]:
    """Return how many pixels of each found segment lie on the last crowd of its class."""
    last = np.full(classes + 1, -1)  # the last place is of classes that the data set lacks
    last[truths[crowd]] = np.flatnonzero(crowd)
    its = last[founds]
    on_it = shared[its, np.arange(len(founds))] if len(shared) else np.zeros_like(its)
    return np.where(its >= 0, on_it, 0)


def panoptic_quality(total: PQStat, categories: Categories) -> PanopticQuality:
    """Return the qualities of a whole data set; classes that occur nowhere are in no mean."""
    owed = total.tp + (total.fn + total.fp) / 2
    there = owed > 0
    pq = total.overlap / np.where(there, owed, 1)
    sq = total.overlap / np.maximum(total.tp, 1)
    rq = total.tp / np.where(there, owed, 1)
    stuff = np.isin(np.arange(len(categories)), sorted(categories.stuff))

    def mean(chosen: Bool[np.ndarray, " C"]) -> Quality:
        if not chosen.any():
            return Quality(0.0, 0.0, 0.0, 0)
        PQ, SQ, RQ = (float(each[chosen].mean()) for each in (pq, sq, rq))
        return Quality(PQ, SQ, RQ, int(chosen.sum()))

    columns = (pq, sq, rq, total.tp, total.fn, total.fp)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return PanopticQuality(
        mean(there),
        mean(there & ~stuff),
        mean(there & stuff),
        {categories.name(class_index): ClassQuality(*row) for class_index, row in enumerate(rows)},
    )


def sum_stats(tallies: Sequence[PQStat], classes: int) -> PQStat:
    """Return the sum of the tallies of several images or processes."""
    return sum(tallies, PQStat.nothing(classes))
