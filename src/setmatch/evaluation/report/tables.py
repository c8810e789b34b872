"""The tables of the report: classes, sizes, kinds of error, thresholds, layers, confusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from setmatch.evaluation.metrics.diagnosis import (
    ClassDiagnosis,
    Diagnosis,
    ErrorKind,
    SizePrecision,
)
from setmatch.evaluation.metrics.per_layer import LayerPrecision
from setmatch.evaluation.report.summary_text import MEANING
from setmatch.html.tables import Bar, Row, Table, percent

_MAX_CONFUSION_CLASSES = 16  # that fit a screen


@dataclass(frozen=True)
class ConfusionCell:
    """A count, and its fraction of the row."""

    count: int
    fraction: float

    @property
    def strength_percent(self) -> int:
        """How strongly to tint the cell; even a small fraction is visible."""
        return round(8 + 62 * self.fraction)


@dataclass(frozen=True)
class ConfusionMatrix:
    """True class (row) against predicted class (column); the last of each is the background."""

    names: list[str]
    rows: list[list[ConfusionCell]]  # one more than names
    classes: int  # of the data set; the matrix may show fewer


def class_table(classes: Sequence[ClassDiagnosis]) -> Table:
    """Return AP per class, overall and by size, best first."""
    rows = [
        Row(
            (
                each.name,
                Bar(each.AP),
                *map(percent, (each.AP, each.AP50, each.AP75, each.APs, each.APm, each.APl)),
                f"{each.boxes:,}",
            )
        )
        for each in sorted(classes, key=lambda each: -each.AP)
    ]
    return Table(("", "", "AP", "AP50", "AP75", "S", "M", "L", "objects"), rows)


def size_table(sizes: Mapping[str, SizePrecision]) -> Table:
    """Return AP and AR by size of the objects."""
    rows = [
        Row((size, Bar(each.AP), percent(each.AP), percent(each.AR), f"{each.boxes:,}"))
        for size, each in sizes.items()
    ]
    return Table(("", "", "AP", "AR", "objects"), rows)


def error_table(errors: Mapping[str, ErrorKind]) -> Table:
    """Return the AP50 that each kind of error costs, costliest first, and how often it occurs."""
    most = max((error.lost_AP50 for error in errors.values()), default=0) or 1
    rows = [
        Row(
            (
                kind,
                Bar(error.lost_AP50 / most),
                f"{100 * error.lost_AP50:.1f}",
                f"{error.shown:,}",
                f"{error.count:,}",
            ),
            note=MEANING[kind],
        )
        for kind, error in sorted(errors.items(), key=lambda item: -item[1].lost_AP50)
    ]
    return Table(("", "", "AP50\nlost", "above\nthreshold", "all\ndetections"), rows)


def threshold_table(classes: Sequence[ClassDiagnosis]) -> Table:
    """Return the best threshold of every class with objects, and its precision and recall."""
    rows = []
    for each in sorted(classes, key=lambda each: -each.AP):
        best = each.threshold
        cells: tuple[str, ...] = ("–",) * 4
        if best is not None:
            cells = (f"{best.score:.2f}", *map(percent, (best.precision, best.recall, best.f1)))
        if each.boxes:
            rows.append(Row((each.name, *cells)))
    return Table(("", "threshold", "precision", "recall", "F1"), rows)


def layer_table(layers: Sequence[LayerPrecision]) -> Table:
    """Return AP and AP50 after each decoder layer, and how NMS changes them."""
    rows = [
        Row(
            (
                f"layer {each.layer}",
                percent(each.AP),
                f"{100 * (each.AP_with_nms - each.AP):+.1f}",
                percent(each.AP50),
                f"{100 * (each.AP50_with_nms - each.AP50):+.1f}",
            )
        )
        for each in layers
    ]
    return Table(("", "AP", "with NMS", "AP50", "with NMS"), rows)


def confusion_matrix(diagnosis: Diagnosis) -> ConfusionMatrix:
    """Return the confusion matrix of all classes, or of the 16 most confused ones."""
    matrix = np.array(diagnosis.confusion)
    names = [each.name for each in diagnosis.classes]
    chosen = _most_confused(matrix)
    places = [*chosen, len(names)]
    counts = matrix[np.ix_(places, places)]
    fractions = counts / np.maximum(matrix[places].sum(axis=1, keepdims=True), 1)
    rows = [
        [ConfusionCell(*cell) for cell in zip(*row, strict=True)]
        for row in zip(counts.tolist(), fractions.tolist(), strict=True)
    ]
    return ConfusionMatrix([names[place] for place in chosen], rows, len(names))


def _most_confused(matrix: np.ndarray) -> list[int]:
    """Return all classes, or those that are confused with others most often."""
    classes = len(matrix) - 1
    if classes <= _MAX_CONFUSION_CLASSES:
        return list(range(classes))
    between = matrix[:-1, :-1] - np.diag(np.diag(matrix)[:-1])
    order = (-(between.sum(axis=0) + between.sum(axis=1))).argsort(kind="stable")
    chosen: list[int] = sorted(order[:_MAX_CONFUSION_CLASSES].tolist())
    return chosen
