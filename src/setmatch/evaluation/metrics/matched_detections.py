"""Match detections to annotations by COCO's protocol, and choose thresholds for display."""

from collections.abc import Sequence
from dataclasses import dataclass

import hotcoco
import numpy as np
from jaxtyping import Bool, Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.best_threshold import Threshold, best_threshold
from setmatch.evaluation.metrics.coco import Results, run_protocol
from setmatch.evaluation.metrics.error_types import RIGHT_IOU


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """The detections of a data set, matched to annotations at IoU 0.5; D detections.

    `counted` marks detections that count: they are within the limit, and not on a crowd. `truth` is
    the row of the matched annotation, or -1. The last limit of `protocol` is `max_detections`.
    `thresholds` holds the best threshold of each class,
    and `shown` marks the counted detections that reach it.
    """

    index: DetectionDataset
    results: Results
    max_detections: int
    protocol: hotcoco.COCOeval
    counted: Bool[np.ndarray, " D"]
    truth: Int64[np.ndarray, " D"]
    thresholds: tuple[Threshold | None, ...]
    shown: Bool[np.ndarray, " D"]

    @property
    def right(self) -> Bool[np.ndarray, " D"]:
        """Which detections match an object of their class."""
        return self.truth >= 0

    @property
    def threshold_by_name(self) -> dict[str, float]:
        """The best threshold of each class that has one, to four digits."""
        names = map(self.index.categories.name, range(len(self.thresholds)))
        pairs = zip(names, self.thresholds, strict=True)
        return {name: round(each.score, 4) for name, each in pairs if each is not None}


def match_detections(
    dataset: DetectionDataset,
    results: Results,
    max_detections: int,
    protocol: hotcoco.COCOeval | None = None,
) -> MatchedDetections:
    """Match every detection as COCO does at IoU 0.5, and find the best threshold of each class.

    `protocol` was run on the same detections, and saves the time to run it again if its largest
    limit is `max_detections`: it matches by that one. Raises DataError as `average_precision` does.
    """
    if protocol is None or protocol.params.max_dets[-1] != max_detections:
        protocol = run_protocol(dataset, results, [max_detections])
    diagnostics = protocol.image_diagnostics(iou_thr=RIGHT_IOU)
    counted = np.zeros(len(results), dtype=bool)
    counted[_rows(diagnostics["dt_status"])] = True
    truth = np.full(len(results), -1, dtype=np.int64)
    match_of = diagnostics["dt_match"]
    truth[_rows(match_of)] = np.fromiter(match_of.values(), np.int64, len(match_of)) - 1
    classes = len(dataset.categories)
    objects = np.bincount(dataset.class_indices[~dataset.crowd], minlength=classes)
    thresholds = tuple(
        best_threshold(results.scores[rows], truth[rows] >= 0, int(objects[class_index]))
        for class_index, rows in enumerate(_rows_by_class(results, counted, classes))
    )
    minimum = np.array([np.inf if each is None else each.score for each in thresholds])
    shown = counted & (results.scores >= minimum[results.class_indices])
    return MatchedDetections(
        dataset, results, max_detections, protocol, counted, truth, thresholds, shown
    )


def _rows(by_id: dict[int, object]) -> Int64[np.ndarray, " R"]:
    """Return the rows of detections from their ids, which hotcoco counts from 1."""
    return np.fromiter(by_id, np.int64, len(by_id)) - 1


def _rows_by_class(
    results: Results, counted: Bool[np.ndarray, " D"], classes: int
) -> Sequence[Int64[np.ndarray, " _"]]:
    """Return the rows of the counted detections of every class."""
    rows = np.flatnonzero(counted)
    order = results.class_indices[rows].argsort(kind="stable")
    ends = np.bincount(results.class_indices[rows], minlength=classes).cumsum()
    return np.split(rows[order], ends[:-1])
