"""Measure the detections of a split, and write the report and the requested files."""

from dataclasses import replace
from pathlib import Path

from setmatch.data.annotations.stuff import drop_stuff, thing_class_indices
from setmatch.data.dataset import DetectionDataset
from setmatch.errors import DataError
from setmatch.evaluation.metrics.coco import (
    AveragePrecision,
    Results,
    average_precision,
    limits_for,
    precision_of,
    run_protocol,
)
from setmatch.evaluation.metrics.diagnosis import diagnose
from setmatch.evaluation.metrics.matched_detections import match_detections
from setmatch.evaluation.metrics.panoptic import panoptic_quality
from setmatch.evaluation.metrics.per_layer import layer_precision
from setmatch.evaluation.outputs import Outputs
from setmatch.evaluation.report.html import write_page
from setmatch.evaluation.results import Report
from setmatch.evaluation.split_detections import SplitDetections


def build_report(
    dataset: DetectionDataset,
    detections: SplitDetections,
    max_detections: int,
    outputs: Outputs,
    is_writer: bool = True,
) -> Report:
    """Measure the detections of a data set; a writer also writes the requested files.

    At most `max_detections` detections count per class and image. The diagnosis is computed only
    if `outputs` requests the page.
    """
    results, stat = detections.per_layer.results, detections.pq_stat
    protocol = run_protocol(dataset, results, limits_for(max_detections))
    matched, diagnosis = match_detections(dataset, results, max_detections, protocol), None
    if outputs.report:
        layers = layer_precision(dataset, detections.per_layer, max_detections)
        diagnosis = diagnose(matched, layers)
    report = Report(
        **vars(precision_of(protocol, dataset, max_detections)),
        images=len(dataset),
        detections=len(results),
        unknown=detections.unknown,
        max_detections=max_detections,
        diagnosis=diagnosis,
        masks=None if results.rle is None else _mask_ap(dataset, results, max_detections),
        panoptic=None if stat is None else panoptic_quality(stat, dataset.categories),
        notes=detections.notes,
        thresholds=matched.threshold_by_name,
        unreadable=detections.unreadable,
    )
    if is_writer:
        outputs.write_numbers(report, results, dataset)
        if outputs.report:
            write_page(report, matched, detections.worst, detections.name, Path(outputs.report))
    return report


def _mask_ap(dataset: DetectionDataset, results: Results, max_detections: int) -> AveragePrecision:
    """Return mask AP of things. COCO does not compare the masks of stuff instance by instance."""
    thing_index = thing_class_indices(dataset.categories)
    things = results.select(thing_index[results.class_indices] >= 0)
    things = replace(things, class_indices=thing_index[things.class_indices])
    return average_precision(drop_stuff(dataset), things, max_detections, masks=True)


def require_objects(dataset: DetectionDataset) -> None:
    """Raise DataError if no image has an annotated object, because a page would be empty."""
    if dataset.crowd.all():
        raise DataError(
            f"{dataset.source}: none of its {len(dataset)} images has an annotated object, so "
            "there is nothing to compare detections with; choose another split with --split"
        )
