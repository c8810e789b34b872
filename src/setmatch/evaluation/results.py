"""The report of an evaluation: metrics as numbers, as JSON, and as a table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from setmatch.errors import quoted
from setmatch.evaluation.metrics.coco import AveragePrecision, absent_as_none
from setmatch.evaluation.metrics.diagnosis import Diagnosis
from setmatch.evaluation.metrics.panoptic import PanopticQuality, Quality
from setmatch.html.tables import percent

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Report(AveragePrecision):
    """The COCO metrics of a model on a data set, 0..1.

    `images` and `detections` are the numbers of images and detections. `unknown` names the data
    set's classes that the model does not have; their boxes count as missed. The best
    `max_detections` detections of each class count in an image. `diagnosis` is present if a page
    was requested, `panoptic` if the model predicts masks and the data set has panoptic annotations,
    and `masks` (mask AP) if objects have masks. `notes` are warnings about the metrics.
    `thresholds` has the score threshold with the highest F1 of each class with a correct detection.
    `unreadable` describes images that could not be read; their objects count as missed.
    """

    images: int
    detections: int
    unknown: tuple[str, ...] = ()
    max_detections: int = 100
    diagnosis: Diagnosis | None = None
    panoptic: PanopticQuality | None = None
    masks: AveragePrecision | None = None
    notes: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the twelve metrics, `per_class` and `thresholds`, 0..1; None: nothing to find.

        `masks` (the metrics of masks), `panoptic` (PQ, SQ and RQ of all classes, things, stuff and
        each class), `unreadable` and `diagnosis` are present only if they are not empty.
        """
        tree = {**_tree(self), "thresholds": dict(self.thresholds)}
        if self.masks is not None:
            tree["masks"] = _tree(self.masks)
        if self.panoptic is not None:
            tree["panoptic"] = asdict(self.panoptic)
        if self.unreadable:
            tree["unreadable"] = list(self.unreadable)
        if self.diagnosis is not None:
            tree["diagnosis"] = asdict(self.diagnosis)
        plain: dict[str, Any] = absent_as_none(tree)
        return plain

    def table(self) -> "RenderableType":
        """Return tables for a rich console, in percent; – means nothing to find."""
        from rich.console import Group
        from rich.text import Text

        boxes = sum(numbers.boxes for numbers in self.per_class.values())
        notes = [f"{self.images} images, {boxes} boxes, {self.detections} detections; in percent"]
        if self.max_detections != 100:
            notes.append(
                f"{self.max_detections} detections per class and image count, not COCO's 100"
            )
        if self.unknown:
            notes.append(f"classes the model does not have: {quoted(self.unknown)}")
        notes += [*self.notes, *self.unreadable]
        parts = [_metrics_table(self), self._class_table(), Text("\n".join(notes), style="dim")]
        if self.masks is not None:
            parts = [Text("boxes"), parts[0], Text("masks"), _metrics_table(self.masks), *parts[1:]]
        if self.panoptic is not None:
            parts = [quality_table(self.panoptic), *parts]
        return Group(*parts)

    def _class_table(self) -> "RenderableType":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table("class", box=SIMPLE_HEAD)
        for name in ("AP", "AP50", "boxes"):
            table.add_column(name, justify="right", min_width=5)
        # Best first; a class without boxes has an AP of -1 and comes last.
        for name, numbers in sorted(self.per_class.items(), key=lambda item: -item[1].AP):
            row = (percent(numbers.AP), percent(numbers.AP50), str(numbers.boxes))
            table.add_row(
                Text(name), *row
            )  # Text, because rich would read brackets in a name as markup
        return table


def _metrics_table(precision: AveragePrecision) -> "RenderableType":
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    numbers = list(precision.numbers().items())
    rows = []
    for part in (numbers[:6], numbers[6:]):  # AP, then AR
        table = Table(box=SIMPLE_HEAD)
        for name, _ in part:
            table.add_column(name, justify="right", min_width=5)
        table.add_row(*(percent(value) for _, value in part))
        rows.append(table)
    return Group(*rows)


def _tree(precision: AveragePrecision) -> dict[str, Any]:
    per_class = {name: asdict(numbers) for name, numbers in precision.per_class.items()}
    return {**precision.numbers(), "per_class": per_class}


def quality_table(quality: PanopticQuality) -> "RenderableType":
    """Return panoptic quality as a table for a rich console, in percent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("panoptic", box=SIMPLE_HEAD)
    for name in ("PQ", "SQ", "RQ", "TP", "FN", "FP"):
        table.add_column(name, justify="right", min_width=5)
    for name in ("all", "things", "stuff"):
        group: Quality = getattr(quality, name)
        row = map(percent, (group.PQ, group.SQ, group.RQ))
        table.add_row(Text(f"{name}, {group.classes} classes"), *(row if group.classes else "–––"))
    table.add_section()
    # Best first, without classes that are neither annotated nor predicted.
    for name, numbers in sorted(quality.per_class.items(), key=lambda item: -item[1].PQ):
        counts = (numbers.tp, numbers.fn, numbers.fp)
        if any(counts):
            values = map(percent, (numbers.PQ, numbers.SQ, numbers.RQ))
            table.add_row(Text(name), *values, *map(str, counts))
    return table
