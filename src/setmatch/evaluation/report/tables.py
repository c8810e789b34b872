"""The tables of the report's page, as markup; whatever users called their classes is escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from setmatch.evaluation.metrics.diagnosis import (
    ClassDiagnosis,
    Diagnosis,
    ErrorKind,
    SizePrecision,
)
from setmatch.evaluation.metrics.per_layer import LayerPrecision
from setmatch.evaluation.report.summary_text import MEANING

_MATRIX = 16  # classes of a confusion matrix that a screen can show


def per_cent(value: float) -> str:
    """Return a fraction as COCO's numbers are written; – for nothing to find."""
    return "–" if value < 0 else f"{100 * value:.1f}"


def class_table(classes: Sequence[ClassDiagnosis]) -> str:
    """Return AP per class, overall and by size, best first."""
    rows = [
        (
            html.escape(each.name),
            bar(each.AP),
            *map(per_cent, (each.AP, each.AP50, each.AP75, each.APs, each.APm, each.APl)),
            f"{each.boxes:,}",
        )
        for each in sorted(classes, key=lambda each: -each.AP)
    ]
    head = ("", BAR, "AP", "AP50", "AP75", "S", "M", "L", "objects")
    return table(head, rows)


def size_table(sizes: Mapping[str, SizePrecision]) -> str:
    """Return AP and AR by size of the objects."""
    rows = [
        (size, bar(each.AP), per_cent(each.AP), per_cent(each.AR), f"{each.boxes:,}")
        for size, each in sizes.items()
    ]
    return table(("", BAR, "AP", "AR", "objects"), rows)


def error_table(errors: Mapping[str, ErrorKind]) -> str:
    """Return what each kind of error costs, the costliest first, and how often it is made."""
    most = max((error.lost_AP50 for error in errors.values()), default=0) or 1
    rows = [
        (
            f"{kind}<small>{MEANING[kind]}</small>",
            bar(error.lost_AP50 / most),
            f"{100 * error.lost_AP50:.1f}",
            f"{error.shown:,}",
            f"{error.count:,}",
        )
        for kind, error in sorted(errors.items(), key=lambda item: -item[1].lost_AP50)
    ]
    head = ("", BAR, "AP50 lost", "above<br>thresholds", "of all<br>detections")
    return table(head, rows)


def threshold_table(classes: Sequence[ClassDiagnosis]) -> str:
    """Return the best threshold of every class with objects, and what it gives."""
    rows = []
    for each in sorted(classes, key=lambda each: -each.AP):
        best = each.threshold
        cells: tuple[str, ...] = ("–",) * 4
        if best is not None:
            shares = (best.precision, best.recall, best.f1)
            cells = (f"{best.score:.2f}", *map(per_cent, shares))
        if each.boxes:
            rows.append((html.escape(each.name), *cells))
    return table(("", "threshold", "precision", "recall", "F1"), rows)


def layer_table(layers: Sequence[LayerPrecision]) -> str:
    """Return AP and AP50 after each decoder layer, and how NMS changes them."""
    rows = [
        (
            f"layer {each.layer}",
            per_cent(each.AP),
            f"{100 * (each.AP_with_nms - each.AP):+.1f}",
            per_cent(each.AP50),
            f"{100 * (each.AP50_with_nms - each.AP50):+.1f}",
        )
        for each in layers
    ]
    return table(("", "AP", "with NMS", "AP50", "with NMS"), rows)


def confusion_table(diagnosis: Diagnosis) -> tuple[str, str]:
    """Return the confusion matrix of at most some classes, those most confused, and what it is."""
    matrix = np.array(diagnosis.confusion)
    names = [each.name for each in diagnosis.classes]
    chosen = _most_confused(matrix)
    note = (
        "Of the objects of each class (row), how many were found as which class (column), among "
        "detections above the thresholds. Last column: found as nothing. Last row: found where "
        "nothing is annotated."
    )
    if len(chosen) < len(names):
        note += f" Shown are the {len(chosen)} of {len(names)} classes that are confused most."
    places = [*chosen, len(names)]
    shown = matrix[np.ix_(places, places)]
    share = shown / np.maximum(matrix[places].sum(axis=1, keepdims=True), 1)
    columns = "".join(
        f"<th class='column'><span>{html.escape(names[k])}</span></th>" for k in chosen
    )
    rows = [f"<tr><th></th>{columns}<th class='column nothing'><span>nothing</span></th></tr>"]
    labels = [*(html.escape(names[k]) for k in chosen), "<span class='nothing'>nothing</span>"]
    for label, counts, shares in zip(labels, shown.tolist(), share.tolist(), strict=True):
        cells = "".join(map(_cell, counts, shares))
        rows.append(f"<tr><th>{label}</th>{cells}</tr>")
    return f'<table class="matrix">{"".join(rows)}</table>', note


def _most_confused(matrix: np.ndarray) -> list[int]:
    """Return the classes to show: all, or those most often taken for another or it for them."""
    classes = len(matrix) - 1
    if classes <= _MATRIX:
        return list(range(classes))
    between = matrix[:-1, :-1] - np.diag(np.diag(matrix)[:-1])
    order = (-(between.sum(axis=0) + between.sum(axis=1))).argsort(kind="stable")
    chosen: list[int] = sorted(order[:_MATRIX].tolist())
    return chosen


def _cell(count: int, share: float) -> str:
    if not count:
        return '<td class="cell soft">·</td>'
    strength = round(8 + 62 * share)
    return (
        f'<td class="cell" style="background:color-mix(in srgb,var(--accent) {strength}%,'
        f'transparent)" title="{share:.0%} of the row">{count:,}</td>'
    )


BAR = "bar"  # a column of bars, which has no name


def bar(share: float) -> str:
    """Return a bar for a share of 1, for a column headed `BAR`."""
    return f'<i style="width:{100 * max(share, 0):.1f}%"></i>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are markup."""
    kinds = [' class="bar"' if name == BAR else "" for name in head]
    names = ("" if name == BAR else name for name in head)
    top = "".join(f"<th{kind}>{name}</th>" for kind, name in zip(kinds, names, strict=True))
    body = []
    for row in rows:
        cells = (f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True))
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{top}</tr>{''.join(body)}</table>"
