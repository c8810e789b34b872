"""What became of every detection: right or wrong by COCO's protocol, and worth showing or not."""

from collections.abc import Sequence
from dataclasses import dataclass

import hotcoco
import numpy as np
from jaxtyping import Bool, Int64

from setmatch.data.dataset import DetectionDataset
from setmatch.evaluation.metrics.average_precision import Results, run_protocol
from setmatch.evaluation.metrics.best_threshold import Threshold, best_threshold

RIGHT_IOU = 0.5


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """Detections of a data set, each judged at IoU 0.5; D detections, C classes.

    `counted` are those that the protocol counts: within the limit, and not on a crowd. `truth` is
    the annotation (row of the index) that a detection found, -1 if none. `shown` are those above
    their class' best threshold.
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
        """Say which detections found an object of their class."""
        return self.truth >= 0


def match_detections(
    index: DetectionDataset, results: Results, max_detections: int
) -> MatchedDetections:
    """Match every detection as COCO does at IoU 0.5, and choose each class' best threshold.

    Raises DataError as `average_precision` does.
    """
    protocol = run_protocol(index, results, [max_detections])
    told = protocol.image_diagnostics(iou_thr=RIGHT_IOU)
    counted = np.zeros(len(results), dtype=bool)
    counted[_rows(told["dt_status"])] = True
    truth = np.full(len(results), -1, dtype=np.int64)
    found = told["dt_match"]
    truth[_rows(found)] = np.fromiter(found.values(), np.int64, len(found)) - 1
    objects = np.bincount(index.class_indices[~index.crowd], minlength=len(index.categories))
    thresholds = tuple(
        best_threshold(results.scores[of_class], truth[of_class] >= 0, int(objects[class_index]))
        for class_index, of_class in enumerate(_by_class(results, counted, len(index.categories)))
    )
    least = np.array([np.inf if each is None else each.score for each in thresholds])
    shown = counted & (results.scores >= least[results.class_indices])
    return MatchedDetections(
        index, results, max_detections, protocol, counted, truth, thresholds, shown
    )


def _rows(by_id: dict[int, object]) -> Int64[np.ndarray, " R"]:
    """Return the rows of the detections, whose ids hotcoco counts from 1."""
    return np.fromiter(by_id, np.int64, len(by_id)) - 1


def _by_class(
    results: Results, counted: Bool[np.ndarray, " D"], classes: int
) -> Sequence[Int64[np.ndarray, " _"]]:
    """Return the rows of every class' detections that count."""
    rows = np.flatnonzero(counted)
    order = results.class_indices[rows].argsort(kind="stable")
    ends = np.bincount(results.class_indices[rows], minlength=classes).cumsum()
    return np.split(rows[order], ends[:-1])
