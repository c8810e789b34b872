"""Write the report of an evaluation as one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from setmatch.evaluation.metrics.diagnosis import (
    BINS,
    SCORES,
    Calibration,
    ClassDiagnosis,
    Diagnosis,
)
from setmatch.evaluation.metrics.matched_detections import MatchedDetections
from setmatch.evaluation.metrics.per_layer import NMS_IOU, LayerPrecision
from setmatch.evaluation.metrics.worst_images import WorstSegmentation
from setmatch.evaluation.report.masks import mask_section
from setmatch.evaluation.report.summary_text import sentences
from setmatch.evaluation.report.tables import (
    class_table,
    confusion_matrix,
    error_table,
    layer_table,
    size_table,
    threshold_table,
)
from setmatch.evaluation.report.worst_images import STYLES, worst_image_figures
from setmatch.html.charts import (
    DASHES,
    Axis,
    Chart,
    Curve,
    histogram,
    line_chart,
    round_ticks,
)
from setmatch.html.page import write
from setmatch.html.tables import percent
from setmatch.ops.colors import css_color_of

if TYPE_CHECKING:
    from setmatch.evaluation.results import Report

_RECALLS = tuple(step / 100 for step in range(101))
_UNIT_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MAX_CURVES = 12  # in one chart, to tell them apart


def write_page(
    report: "Report",
    matched_detections: MatchedDetections,
    worst: Sequence[WorstSegmentation],
    name: str,
    path: Path,
) -> None:
    """Write the page of a report with a diagnosis; `name` names the model or the detections file.

    `worst` are the images with the worst segmentations, if the model predicts segments.
    """
    diagnosis = report.diagnosis
    assert diagnosis is not None, "the page of a report shows its diagnosis"
    figures = worst_image_figures(matched_detections, diagnosis.worst)
    notes = [f"{note}." for note in (*report.notes, *report.unreadable)]
    write(
        path,
        "evaluation/report/report.html",
        name=name,
        source=str(matched_detections.index.source),
        numbers=_numbers(report, diagnosis),
        summary=[*notes, *sentences(diagnosis, report.unknown)],
        masks=mask_section(report, matched_detections.index, worst),
        classes=class_table(diagnosis.classes),
        sizes=size_table(diagnosis.sizes),
        errors=error_table(diagnosis.errors),
        styles=list(STYLES.values()),
        worst=figures,
        error_kinds=sorted({error.kind for each in figures for error in each.errors}),
        error_classes=sorted({error.class_name for each in figures for error in each.errors}),
        precision=_mean_precision(diagnosis),
        class_precision=[_class_precision(each) for each in diagnosis.classes if each.boxes],
        thresholds=threshold_table(diagnosis.classes),
        f1=_f1(diagnosis.classes),
        confusion=confusion_matrix(diagnosis),
        calibration=_calibration(diagnosis.calibration),
        calibration_error=diagnosis.calibration.error,
        layers=layer_table(diagnosis.layers),
        layer_chart=_layer_chart(diagnosis.layers),
        nms_iou=NMS_IOU,
        max_detections=report.max_detections,
        report_json=report.to_json(),
    )


def _numbers(report: "Report", diagnosis: Diagnosis) -> dict[str, str]:
    numbers: dict[str, str] = {}
    if report.panoptic is not None:
        all_classes = report.panoptic.all
        numbers = {name: percent(getattr(all_classes, name)) for name in ("PQ", "SQ", "RQ")}
    if report.masks is not None:
        numbers["mask AP"] = percent(report.masks.AP)
    numbers["box AP" if numbers else "AP"] = percent(report.AP)
    if report.panoptic is None:  # else there are enough numbers already
        numbers |= {"AP50": percent(report.AP50), "AP75": percent(report.AP75)}
    return numbers | {
        "images": f"{report.images:,}",
        "objects": f"{diagnosis.objects:,}",
        "detections": f"{report.detections:,}",
    }


def _axes() -> tuple[Axis, Axis]:
    return Axis("recall", _UNIT_TICKS), Axis("precision", _UNIT_TICKS)


def _mean_precision(diagnosis: Diagnosis) -> Chart:
    curves = [
        Curve(
            f"IoU {iou}",
            list(zip(_RECALLS, values, strict=True)),
            f"hsl({210 + 14 * number} 75% {42 + 3 * number}%)",
        )
        for number, (iou, values) in enumerate(diagnosis.precision.items())
        if values
    ]
    return line_chart(curves, "mean of all classes, from loose to strict IoU", *_axes())


def _class_precision(each: ClassDiagnosis) -> Chart:
    curves = []
    for number, (iou, values) in enumerate(each.precision.items()):
        marks = []
        if number == 0 and each.threshold is not None:
            best = each.threshold
            title = (
                f"threshold {best.score:.2f}: precision {best.precision:.0%}, "
                f"recall {best.recall:.0%}"
            )
            marks = [(best.recall, best.precision, title)]
        points = list(zip(_RECALLS, values, strict=False))
        color = f"hsl({210 + 45 * number} 75% {45 + 7 * number}%)"
        curves.append(Curve(f"IoU {iou}", points, color, DASHES[number], marks))
    return line_chart(curves, each.name, *_axes())


def _f1(classes: Sequence[ClassDiagnosis]) -> Chart:
    present = sorted((each for each in classes if each.boxes), key=lambda each: -each.boxes)
    curves = [
        Curve(
            each.name,
            list(zip(SCORES, each.f1, strict=True)),
            css_color_of(number),
            DASHES[number % len(DASHES)],
            []
            if each.threshold is None
            else [(each.threshold.score, each.threshold.f1, f"{each.threshold.score:.2f}")],
        )
        for number, each in enumerate(present[:_MAX_CURVES])
    ]
    caption = "F1 by threshold"
    if len(present) > _MAX_CURVES:
        caption += f", of the {_MAX_CURVES} most frequent classes"
    return line_chart(curves, caption, Axis("threshold", _UNIT_TICKS), Axis("F1", _UNIT_TICKS))


def _calibration(calibration: Calibration) -> list[Chart]:
    """Return the reliability diagram, and the number of detections by score."""
    filled = [each for each in calibration.bins if each.count]
    points = [(each.score, each.right) for each in filled]
    marks = [
        (
            each.score,
            each.right,
            f"{each.count:,} detections with mean score {each.score:.2f}: {each.right:.0%} right",
        )
        for each in filled
    ]
    ideal = Curve("perfect", [(0.0, 0.0), (1.0, 1.0)], "var(--soft)", DASHES[1])
    measured = Curve("measured", points, "var(--accent)", marks=marks)
    edges = [number / BINS for number in range(BINS + 1)]
    counts = [each.count for each in calibration.bins]
    return [
        line_chart(
            [ideal, measured],
            "precision by score",
            Axis("score", _UNIT_TICKS),
            Axis("precision", _UNIT_TICKS),
        ),
        histogram(counts, edges, "detections by score", "detections", "{:.1f}".format),
    ]


def _layer_chart(layers: Sequence[LayerPrecision]) -> Chart | None:
    if len(layers) < 2:
        return None
    plain = [(float(each.layer), 100 * each.AP) for each in layers]
    suppressed = [(float(each.layer), 100 * each.AP_with_nms) for each in layers]
    values = [value for _, value in plain + suppressed]
    marks = [(layer, value, f"{value:.1f}") for layer, value in plain]
    curves = [
        Curve("without NMS", plain, "var(--accent)", marks=marks),
        Curve("with NMS", suppressed, "#e8590c", DASHES[1]),
    ]
    return line_chart(
        curves,
        "AP after each decoder layer",
        Axis("decoder layer", [float(each.layer) for each in layers]),
        Axis("AP", round_ticks(min(values), max(values))),
    )
