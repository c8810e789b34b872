"""A diagnosis: everything that the report says about a model's answers, as plain numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from setmatch.evaluation.metrics.average_precision import AREAS, mean, run_protocol
from setmatch.evaluation.metrics.best_threshold import Threshold, f1_at
from setmatch.evaluation.metrics.error_types import KINDS, NEAR_IOU
from setmatch.evaluation.metrics.matched_detections import RIGHT_IOU, MatchedDetections
from setmatch.evaluation.metrics.per_layer import LayerPrecision
from setmatch.evaluation.metrics.worst_images import WorstImage, worst_images

SCORES = tuple(step / 50 for step in range(51))  # where F1 is told
BINS = 10
_SHOWN_IOUS = {"0.5": 0, "0.75": 5, "0.9": 8}  # of the ten
_WORST = 12
_SIZES = {"small": ("s", 0, 32**2), "medium": ("m", 32**2, 96**2), "large": ("l", 96**2, np.inf)}


@dataclass(frozen=True)
class ClassDiagnosis:
    """AP of a class (-1 where there is nothing to find), best threshold, curves.

    `precision` is that at recall 0, 0.01 ... 1 for some IoUs; `f1` that at every one of `SCORES`.
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
    """AP and AR of the objects of one size, and how many there are."""

    AP: float
    AR: float
    boxes: int


@dataclass(frozen=True)
class ErrorKind:
    """How much AP50 a kind of error costs, and how often it is made.

    `lost_AP50` is how much higher AP50 would be without it. `count` is among all detections that
    count, `shown` among those above their class' best threshold.
    """

    lost_AP50: float  # noqa: N815
    count: int
    shown: int


@dataclass(frozen=True)
class ScoreBin:
    """Detections that score from `low` to `high`: how many, their mean score, and share right."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """Whether a score is the probability of being right; `error` is the mean difference (ECE)."""

    error: float
    bins: tuple[ScoreBin, ...]


@dataclass(frozen=True)
class Diagnosis:
    """What is behind the numbers of a report; `worst` are the images with the worst mistakes.

    `precision` is the mean over the classes at recall 0, 0.01 ... 1, for each of COCO's ten IoUs.
    `confusion` counts true class (row) against answered class (column), the last of each being
    nothing, for detections above the thresholds. `layers` is empty where no layer was heard.
    """

    objects: int
    found: int
    false_alarms: int
    classes: tuple[ClassDiagnosis, ...]
    sizes: Mapping[str, SizePrecision]
    precision: Mapping[str, tuple[float, ...]]
    confusion: tuple[tuple[int, ...], ...]
    errors: Mapping[str, ErrorKind]
    calibration: Calibration
    layers: tuple[LayerPrecision, ...]
    worst: tuple[WorstImage, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; -1 means nothing to find, null no threshold."""
        return asdict(self)


def diagnose(
    matched_detections: MatchedDetections, layers: tuple[LayerPrecision, ...] = ()
) -> Diagnosis:
    """Say all there is to say about judged detections."""
    above = matched_detections.results.only(matched_detections.shown)
    protocol = run_protocol(matched_detections.index, above, [matched_detections.max_detections])
    matrix: NDArray[np.uint64] = protocol.confusion_matrix(iou_thr=RIGHT_IOU)["matrix"]
    counted = matched_detections.protocol.eval
    assert counted is not None, "the protocol has been run"
    precision: NDArray[np.float64] = counted["precision"][..., 0]  # IoU, recall, class, area
    recall: NDArray[np.float64] = counted["recall"][..., 0]  # IoU, class, area
    return Diagnosis(
        objects=int((~matched_detections.index.crowd).sum()),
        found=int((matched_detections.shown & matched_detections.right).sum()),
        false_alarms=int((matched_detections.shown & ~matched_detections.right).sum()),
        classes=tuple(_classes(matched_detections, precision)),
        sizes=_sizes(matched_detections, precision, recall),
        precision={
            f"{iou:g}": _curve(precision[number, :, :, AREAS["all"]])
            for number, iou in enumerate(np.arange(50, 100, 5) / 100)
        },
        confusion=tuple(tuple(row) for row in matrix.astype(int).tolist()),
        errors=_errors(matched_detections, protocol.tide_errors(RIGHT_IOU, NEAR_IOU)["counts"]),
        calibration=_calibration(matched_detections),
        layers=layers,
        worst=worst_images(matched_detections, _WORST),
    )


def _classes(
    matched_detections: MatchedDetections, precision: NDArray[np.float64]
) -> list[ClassDiagnosis]:
    index, results = matched_detections.index, matched_detections.results
    boxes = np.bincount(index.class_indices[~index.crowd], minlength=len(index.categories))
    found = []
    for class_index, threshold in enumerate(matched_detections.thresholds):
        mine = matched_detections.counted & (results.class_indices == class_index)
        of_class = precision[:, :, class_index]
        found.append(
            ClassDiagnosis(
                name=index.categories.name(class_index),
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
                    results.scores[mine],
                    matched_detections.right[mine],
                    int(boxes[class_index]),
                ),
            )
        )
    return found


def _curve(precision: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the mean over the classes (second axis) that have anything to find; else nothing."""
    known = precision[:, (precision > -1).all(axis=0)]
    return tuple(known.mean(axis=1).round(4).tolist()) if known.size else ()


def _sizes(
    matched_detections: MatchedDetections,
    precision: NDArray[np.float64],
    recall: NDArray[np.float64],
) -> dict[str, SizePrecision]:
    area_px = matched_detections.index.area_px[~matched_detections.index.crowd]
    return {
        size: SizePrecision(
            AP=mean(precision[..., AREAS[short]]),
            AR=mean(recall[..., AREAS[short]]),
            boxes=int(((area_px >= low) & (area_px < high)).sum()),
        )
        for size, (short, low, high) in _SIZES.items()
    }


def _errors(
    matched_detections: MatchedDetections, shown: Mapping[str, int]
) -> dict[str, ErrorKind]:
    told = matched_detections.protocol.tide_errors(RIGHT_IOU, NEAR_IOU)
    return {
        kind: ErrorKind(told["delta_ap"][name], told["counts"][name], shown[name])
        for kind, name in KINDS.items()
    }


def _calibration(matched_detections: MatchedDetections) -> Calibration:
    told = matched_detections.protocol.calibration(n_bins=BINS, iou_threshold=RIGHT_IOU)
    bins = tuple(
        ScoreBin(
            each["bin_lower"],
            each["bin_upper"],
            each["count"],
            each["avg_confidence"],
            each["avg_accuracy"],
        )
        for each in told["bins"]
    )
    return Calibration(told["ece"], bins)
