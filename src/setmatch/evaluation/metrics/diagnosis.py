"""Diagnose the errors of detections: everything that the report shows, as plain numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from setmatch.evaluation.metrics.best_threshold import Threshold, f1_at
from setmatch.evaluation.metrics.coco import AREAS, mean, run_protocol
from setmatch.evaluation.metrics.error_types import KINDS, NEAR_IOU, RIGHT_IOU
from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.per_layer import LayerPrecision
from setmatch.evaluation.metrics.worst_images import WorstImage, worst_images

SCORES = tuple(step / 50 for step in range(51))  # thresholds of the F1 curve
BINS = 10
_SHOWN_IOUS = {"0.5": 0, "0.75": 5, "0.9": 8}  # index among COCO's ten IoU thresholds
_MAX_WORST = 200
_SIZES = {"small": ("s", 0, 32**2), "medium": ("m", 32**2, 96**2), "large": ("l", 96**2, np.inf)}


@dataclass(frozen=True)
class ClassDiagnosis:
    """AP of a class (-1 means nothing to find), its best threshold, and its curves.

    `precision` holds, for some IoUs, the precision at recall 0, 0.01 ... 1. `f1` holds the F1 at
    each threshold of `SCORES`.
    """

    name: str
    boxes: int
    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    threshold: Threshold | None
    precision: Mapping[str, tuple[float, ...]]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class SizePrecision:
    """AP and AR of the objects of one size, and their number."""

    AP: float
    AR: float
    boxes: int


@dataclass(frozen=True)
class ErrorKind:
    """The cost and frequency of a type of error.

    `lost_AP50` is the increase of AP50 if these errors were fixed. `count` is the number of errors
    among all counted detections, `shown` among those above the best threshold of their class.
    """

    lost_AP50: float  # noqa: N815
    count: int
    shown: int


@dataclass(frozen=True)
class ScoreBin:
    """The detections that score from `low` to `high`: count, mean score, and fraction correct."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How well scores agree with precision; `error` is the expected calibration error (ECE)."""

    error: float
    bins: tuple[ScoreBin, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The details behind the metrics of a report.

    `true_positives` and `false_positives` count correct and wrong detections above the thresholds.
    `precision` is the mean over the classes at recall 0, 0.01 ... 1, for each of COCO's ten IoUs.
    `confusion` counts the true class (row) against the detected class (column) of detections above
    the thresholds; the last row and column are background. `layers` is empty without the detections
    of all layers. `worst` holds at most 200 images with errors, worst first.
    """

    objects: int
    true_positives: int
    false_positives: int
    classes: tuple[ClassDiagnosis, ...]
    sizes: Mapping[str, SizePrecision]
    precision: Mapping[str, tuple[float, ...]]
    confusion: tuple[tuple[int, ...], ...]
    errors: Mapping[str, ErrorKind]
    calibration: Calibration
    layers: tuple[LayerPrecision, ...]
    worst: tuple[WorstImage, ...]


def diagnose(matched: MatchedDetections, layers: tuple[LayerPrecision, ...] = ()) -> Diagnosis:
    """Compute the diagnosis of matched detections; `layers` is included as it is."""
    above = matched.results.select(matched.shown)
    protocol = run_protocol(matched.index, above, [matched.max_detections])
    matrix: NDArray[np.uint64] = protocol.confusion_matrix(iou_thr=RIGHT_IOU)["matrix"]
    accumulated = matched.protocol.eval
    assert accumulated is not None, "run_protocol accumulates"
    precision: NDArray[np.float64] = accumulated["precision"][..., -1]  # IoU, recall, class, area
    recall: NDArray[np.float64] = accumulated["recall"][..., -1]  # IoU, class, area
    return Diagnosis(
        objects=int((~matched.index.crowd).sum()),
        true_positives=int((matched.shown & matched.right).sum()),
        false_positives=int((matched.shown & ~matched.right).sum()),
        classes=tuple(_classes(matched, precision)),
        sizes=_sizes(matched, precision, recall),
        precision={
            f"{iou:g}": _curve(precision[number, :, :, AREAS["all"]])
            for number, iou in enumerate(np.arange(50, 100, 5) / 100)
        },
        confusion=tuple(tuple(row) for row in matrix.astype(int).tolist()),
        errors=_errors(matched, protocol.tide_errors(RIGHT_IOU, NEAR_IOU)["counts"]),
        calibration=_calibration(matched),
        layers=layers,
        worst=worst_images(matched, _MAX_WORST),
    )


def _classes(matched: MatchedDetections, precision: NDArray[np.float64]) -> list[ClassDiagnosis]:
    dataset, results = matched.index, matched.results
    boxes = np.bincount(dataset.class_indices[~dataset.crowd], minlength=len(dataset.categories))
    diagnoses = []
    for class_index, threshold in enumerate(matched.thresholds):
        in_class = matched.counted & (results.class_indices == class_index)
        of_class = precision[:, :, class_index]
        diagnoses.append(
            ClassDiagnosis(
                name=dataset.categories.name(class_index),
                boxes=int(boxes[class_index]),
                AP=mean(of_class[..., AREAS["all"]]),
                AP50=mean(of_class[0, :, AREAS["all"]]),
                AP75=mean(of_class[5, :, AREAS["all"]]),
                APs=mean(of_class[..., AREAS["s"]]),
                APm=mean(of_class[..., AREAS["m"]]),
                APl=mean(of_class[..., AREAS["l"]]),
                threshold=threshold,
                precision={
                    iou: _curve(of_class[number][:, [AREAS["all"]]])
                    for iou, number in _SHOWN_IOUS.items()
                },
                f1=f1_at(
                    SCORES,
                    results.scores[in_class],
                    matched.right[in_class],
                    int(boxes[class_index]),
                ),
            )
        )
    return diagnoses


def _curve(precision: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the mean over the classes (second axis) that have objects; empty if none has."""
    known = precision[:, (precision > -1).all(axis=0)]
    return tuple(known.mean(axis=1).round(4).tolist()) if known.size else ()


def _sizes(
    matched: MatchedDetections,
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> dict[str, SizePrecision]:
    area_px = matched.index.area_px[~matched.index.crowd]
    return {
        size: SizePrecision(
            AP=mean(precision[..., AREAS[short]]),
            AR=mean(recall[..., AREAS[short]]),
            boxes=int(((area_px >= low) & (area_px < high)).sum()),
        )
        for size, (short, low, high) in _SIZES.items()
    }


def _errors(matched: MatchedDetections, shown: Mapping[str, int]) -> dict[str, ErrorKind]:
    errors = matched.protocol.tide_errors(RIGHT_IOU, NEAR_IOU)
    return {
        kind: ErrorKind(errors["delta_ap"][name], errors["counts"][name], shown[name])
        for kind, name in KINDS.items()
    }


def _calibration(matched: MatchedDetections) -> Calibration:
    calibration = matched.protocol.calibration(n_bins=BINS, iou_threshold=RIGHT_IOU)
    bins = tuple(
        ScoreBin(
            each["bin_lower"],
            each["bin_upper"],
            each["count"],
            each["avg_confidence"],
            each["avg_accuracy"],
        )
        for each in calibration["bins"]
    )
    return Calibration(calibration["ece"], bins)
