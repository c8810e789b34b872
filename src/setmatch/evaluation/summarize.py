"""From answers to a report, and to the files that are wanted of it, whoever gave the answers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from setmatch.data.dataset import DetectionDataset
from setmatch.data.stuff import drop_stuff, thing_class_indices
from setmatch.errors import DataError
from setmatch.evaluation.metrics.average_precision import (
    AveragePrecision,
    Results,
    average_precision,
)
from setmatch.evaluation.metrics.diagnosis import diagnose
from setmatch.evaluation.metrics.matched_detections import MatchedDetections, match_detections
from setmatch.evaluation.metrics.panoptic_quality import PanopticQuality
from setmatch.evaluation.metrics.per_layer import PerLayerDetections, layer_precision
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.report.html import write_page
from setmatch.evaluation.report.segmentation import WorstSegmentation
from setmatch.evaluation.results import Report

COCO_LIMIT = 100  # detections of a class in an image


def build_report(
    index: DetectionDataset,
    answers: PerLayerDetections,
    outputs: Outputs,
    *,
    limit: int,
    unknown: tuple[str, ...],
    name: str,
    panoptic: PanopticQuality | None = None,
    worst: Sequence[WorstSegmentation] = (),
    notes: tuple[str, ...] = (),
    unanswered: tuple[str, ...] = (),
    writes: bool = True,
) -> Report:
    """Compare answers with the data set, and write what is wanted of it, if this process `writes`.

    `unknown` are the classes that the answers cannot hold, `name` is what gave them, `panoptic` how
    good its segments are, where there are any, `worst` the images whose segments are the worst, and
    `notes` say what to bear in mind about them, and `unanswered` which images could not be read.
    """
    results = answers.results
    matched_detections: MatchedDetections | None = None
    diagnosis = None
    if outputs.report:
        matched_detections = match_detections(index, results, limit)
        diagnosis = diagnose(matched_detections, layer_precision(index, answers, limit))
    report = Report(
        **vars(average_precision(index, results, limit)),
        images=len(index),
        detections=len(results),
        unknown=unknown,
        max_detections=limit,
        diagnosis=diagnosis,
        masks=None if results.runs is None else _of_masks(index, results, limit),
        panoptic=panoptic,
        notes=notes,
        unanswered=unanswered,
    )
    if writes:
        outputs.write_numbers(report, results, index)
        if matched_detections is not None and outputs.report:
            write_page(report, matched_detections, worst, name, Path(outputs.report))
    return report


def _of_masks(index: DetectionDataset, results: Results, limit: int) -> AveragePrecision:
    """Measure the masks of things: what is not counted, COCO does not compare one by one."""
    things = thing_class_indices(index.categories)
    counted = results.only(things[results.class_indices] >= 0)
    of_things = replace(counted, class_indices=things[counted.class_indices])
    return average_precision(drop_stuff(index), of_things, limit, masks=True)


def overfull(index: DetectionDataset) -> bool:
    """Say whether an image holds more objects than COCO would let an answer name."""
    return bool(np.diff(index.offsets).max(initial=0) > COCO_LIMIT)


def require_objects(index: DetectionDataset) -> None:
    """Raise DataError where nothing is annotated, so that a page would have nothing to say."""
    if index.crowd.all():
        raise DataError(
            f"{index.source}: none of its {len(index)} images has an annotated object, so there is "
            "nothing to compare answers with; choose another split with --split"
        )
