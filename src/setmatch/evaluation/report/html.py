"""The report as one page of HTML that needs nothing beside it."""

import html
import json
from collections.abc import Iterator, Sequence
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
from setmatch.evaluation.report.segmentation import mask_section
from setmatch.evaluation.report.summary_text import sentences
from setmatch.evaluation.report.tables import (
    class_table,
    confusion_table,
    error_table,
    layer_table,
    per_cent,
    size_table,
    threshold_table,
)
from setmatch.evaluation.report.worst_images import gallery
from setmatch.html.charts import Axis, Curve, bars, color_of, curves, round_ticks
from setmatch.html.page import write_sheet

if TYPE_CHECKING:
    from setmatch.evaluation.results import Report

_TEMPLATE = Path(__file__).with_name("page.html")
_TENTHS = tuple(step / 100 for step in range(101))
_SHARE = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_IN_ONE_CHART = 12  # curves that can be told apart
_OPEN = 12  # classes with a chart of their own that is there without a click


def write_page(
    report: "Report",
    matched_detections: MatchedDetections,
    worst: Sequence[WorstSegmentation],
    name: str,
    path: Path,
) -> None:
    """Write the page of a report with a diagnosis; `name` is what gave the answers.

    `worst` are the images whose segments are the worst, where there are segments.
    """
    diagnosis = report.diagnosis
    assert diagnosis is not None, "a page shows a diagnosis"
    confusion, confusion_note = confusion_table(diagnosis)
    notes = (f"{note}." for note in (*report.notes, *report.unanswered))
    told = (*notes, *sentences(diagnosis, report.unknown))
    parts = {
        "name": html.escape(name),
        "source": html.escape(str(matched_detections.index.source)),
        "numbers": _numbers(report, diagnosis),
        "short": "".join(f"<li>{html.escape(each)}</li>" for each in told),
        "masks": mask_section(report, matched_detections.index, worst),
        "classes": class_table(diagnosis.classes),
        "sizes": size_table(diagnosis.sizes),
        "errors": error_table(diagnosis.errors),
        "worst": gallery(matched_detections, diagnosis.worst),
        "precision": _mean_precision(diagnosis),
        "class_precision": _class_precision(diagnosis.classes),
        "thresholds": threshold_table(diagnosis.classes),
        "f1": _f1(diagnosis.classes),
        "confusion": confusion,
        "confusion_note": confusion_note,
        "calibration": "".join(_calibration(diagnosis.calibration)),
        "calibration_error": f"{100 * diagnosis.calibration.error:.1f}",
        "layers": _layers(diagnosis.layers),
        "limit": str(report.max_detections),
        # Nothing in it can end the element that it stands in.
        "json": json.dumps(report.to_json(), ensure_ascii=False).replace("<", "\\u003c"),
    }
    write_sheet(_TEMPLATE, parts, path)


def _numbers(report: "Report", diagnosis: Diagnosis) -> str:
    numbers: dict[str, str] = {}
    if report.panoptic is not None:
        of_all = report.panoptic.all
        numbers = {name: per_cent(getattr(of_all, name)) for name in ("PQ", "SQ", "RQ")}
    if report.masks is not None:
        numbers["mask AP"] = per_cent(report.masks.AP)
    numbers["box AP" if numbers else "AP"] = per_cent(report.AP)
    if report.panoptic is None:  # which has enough numbers of its own
        numbers |= {"AP50": per_cent(report.AP50), "AP75": per_cent(report.AP75)}
    numbers |= {
        "images": f"{report.images:,}",
        "objects": f"{diagnosis.objects:,}",
        "detections": f"{report.detections:,}",
    }
    return "".join(f"<div><b>{number}</b>{name}</div>" for name, number in numbers.items())


def _axes() -> tuple[Axis, Axis]:
    return Axis("recall", _SHARE), Axis("precision", _SHARE)


def _mean_precision(diagnosis: Diagnosis) -> str:
    drawn = [
        Curve(
            f"IoU {iou}",
            list(zip(_TENTHS, values, strict=True)),
            f"hsl({210 + 14 * number} 75% {42 + 3 * number}%)",
        )
        for number, (iou, values) in enumerate(diagnosis.precision.items())
        if values
    ]
    return curves(drawn, "mean of all classes, from loose to strict IoU", *_axes())


def _class_precision(classes: Sequence[ClassDiagnosis]) -> str:
    charts = [_class_curves(each) for each in classes if each.boxes]
    more = ""
    if len(charts) > _OPEN:
        more = (
            f"<details><summary>{len(charts) - _OPEN} more classes</summary>"
            f'<div class="small charts">{"".join(charts[_OPEN:])}</div></details>'
        )
    return f'<div class="small charts">{"".join(charts[:_OPEN])}</div>{more}'


def _class_curves(each: ClassDiagnosis) -> str:
    drawn = []
    for number, (iou, values) in enumerate(each.precision.items()):
        marks = []
        if number == 0 and each.threshold is not None:
            best = each.threshold
            told = (
                f"from score {best.score:.2f}: {best.precision:.0%} right, {best.recall:.0%} found"
            )
            marks = [(best.recall, best.precision, told)]
        points = list(zip(_TENTHS, values, strict=False))
        color = f"hsl({210 + 45 * number} 75% {45 + 7 * number}%)"
        drawn.append(Curve(f"IoU {iou}", points, color, marks=marks))
    return curves(drawn, each.name, *_axes())


def _f1(classes: Sequence[ClassDiagnosis]) -> str:
    known = sorted((each for each in classes if each.boxes), key=lambda each: -each.boxes)
    drawn = [
        Curve(
            each.name,
            list(zip(SCORES, each.f1, strict=True)),
            color_of(number),
            marks=[]
            if each.threshold is None
            else [(each.threshold.score, each.threshold.f1, f"{each.threshold.score:.2f}")],
        )
        for number, each in enumerate(known[:_IN_ONE_CHART])
    ]
    caption = "F1 by threshold"
    if len(known) > _IN_ONE_CHART:
        caption += f", of the {_IN_ONE_CHART} most frequent classes"
    return curves(drawn, caption, Axis("threshold", _SHARE), Axis("F1", _SHARE))


def _calibration(calibration: Calibration) -> Iterator[str]:
    filled = [each for each in calibration.bins if each.count]
    points = [(each.score, each.right) for each in filled]
    marks = [
        (
            each.score,
            each.right,
            f"{each.count:,} score {each.score:.2f}, {each.right:.0%} are right",
        )
        for each in filled
    ]
    ideal = Curve("perfect", [(0.0, 0.0), (1.0, 1.0)], "var(--soft)", dashed=True)
    drawn = Curve("measured", points, "var(--accent)", marks=marks)
    yield curves(
        [ideal, drawn],
        "share of detections that are right, by score",
        Axis("score", _SHARE),
        Axis("share right", _SHARE),
    )
    edges = [number / BINS for number in range(BINS + 1)]
    counts = [each.count for each in calibration.bins]
    yield bars(counts, edges, "detections by score", "detections", "{:.1f}".format)


def _layers(layers: Sequence[LayerPrecision]) -> str:
    if not layers:
        return ""
    plain = [(float(each.layer), 100 * each.AP) for each in layers]
    single = [(float(each.layer), 100 * each.AP_with_nms) for each in layers]
    values = [value for _, value in plain + single]
    drawn = [
        Curve("as it is", plain, "var(--accent)", marks=[(*p, f"{p[1]:.1f}") for p in plain]),
        Curve("with NMS", single, "#e8590c", dashed=True),
    ]
    chart = (
        curves(
            drawn,
            "AP after each decoder layer",
            Axis("decoder layer", [float(each.layer) for each in layers]),
            Axis("AP", round_ticks(min(values), max(values))),
        )
        if len(layers) > 1
        else ""
    )
    return (
        "<h2>Decoder layers</h2>"
        '<p class="lead soft">What each decoder layer would answer, and what suppressing doubles '
        f"(NMS by class, IoU {NMS_IOU}) would change. In the paper it helps the first layer, whose "
        "queries hardly know of each other, and slightly hurts the last, where it takes away "
        "objects that are close together (arXiv 2005.12872, figure 4).</p>"
        f'<div class="charts">{chart}<div class="wide">{layer_table(layers)}</div></div>'
    )
