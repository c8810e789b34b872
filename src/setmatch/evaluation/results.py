"""What an evaluation found, as numbers, as JSON, and as a table to read."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from setmatch.evaluation.metrics.average_precision import AveragePrecision
from setmatch.evaluation.metrics.diagnosis import Diagnosis
from setmatch.evaluation.metrics.panoptic_quality import PanopticQuality, Quality

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Report(AveragePrecision):
    """The COCO numbers of a model on a data set, 0..1, and what they were measured on.

    `unknown` names the data set's classes that the model does not know: their boxes were missed.
    At most `max_detections` of a class count in an image. `diagnosis` says what is behind the
    numbers, where that was asked for; `panoptic` is there where the model has masks and the data
    set has segments, `masks` where masks were compared as boxes are. `unanswered` names the images
    that could not be read: their objects count as missed. `notes` say what to bear in mind when
    reading the numbers.
    """

    images: int
    detections: int
    unknown: tuple[str, ...] = ()
    max_detections: int = 100
    diagnosis: Diagnosis | None = None
    panoptic: PanopticQuality | None = None
    masks: AveragePrecision | None = None
    notes: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the twelve numbers and `per_class` as plain values; -1 means nothing to find.

        Where there are segments, `panoptic` has PQ, SQ and RQ of all, things, stuff and each class;
        where there are masks, `masks` has their numbers as those of the boxes. A diagnosis stands
        under that key, images that could not be read under `unanswered`.
        """
        tree = _tree(self)
        if self.masks is not None:
            tree["masks"] = _tree(self.masks)
        if self.panoptic is not None:
            tree["panoptic"] = asdict(self.panoptic)
        if self.unanswered:
            tree["unanswered"] = list(self.unanswered)
        if self.diagnosis is not None:
            tree["diagnosis"] = self.diagnosis.to_json()
        return tree

    def table(self) -> "RenderableType":
        """Return a table for a rich console, in per cent; – means nothing to find."""
        from rich.console import Group
        from rich.text import Text

        boxes = sum(numbers.boxes for numbers in self.per_class.values())
        notes = [f"{self.images} images, {boxes} boxes, {self.detections} detections; in per cent"]
        if self.max_detections != 100:
            notes.append(f"an image holds over 100 objects: {self.max_detections} detections count")
        if self.unknown:
            notes.append(f"the model does not know: {', '.join(self.unknown)}")
        notes += [*self.notes, *self.unanswered]
        parts = [_summary(self), self._classes(), Text("\n".join(notes), style="dim")]
        if self.masks is not None:
            parts = [Text("boxes"), parts[0], Text("masks"), _summary(self.masks), *parts[1:]]
        if self.panoptic is not None:
            parts = [quality_table(self.panoptic), *parts]
        return Group(*parts)

    def _classes(self) -> "RenderableType":
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table("class", box=SIMPLE_HEAD)
        for name in ("AP", "AP50", "boxes"):
            table.add_column(name, justify="right", min_width=5)
        # Best first; a class without boxes has -1 and so comes last.
        for name, numbers in sorted(self.per_class.items(), key=lambda item: -item[1].AP):
            row = (_per_cent(numbers.AP), _per_cent(numbers.AP50), str(numbers.boxes))
            table.add_row(Text(name), *row)  # a Text, because brackets in a name are no markup
        return table


def _summary(measured: AveragePrecision) -> "RenderableType":
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table

    numbers = list(measured.numbers().items())
    rows = []
    for part in (numbers[:6], numbers[6:]):  # precision, then recall
        table = Table(box=SIMPLE_HEAD)
        for name, _ in part:
            table.add_column(name, justify="right", min_width=5)
        table.add_row(*(_per_cent(value) for _, value in part))
        rows.append(table)
    return Group(*rows)


def _tree(measured: AveragePrecision) -> dict[str, Any]:
    per_class = {name: asdict(numbers) for name, numbers in measured.per_class.items()}
    return {**measured.numbers(), "per_class": per_class}


def quality_table(quality: PanopticQuality) -> "RenderableType":
    """Return panoptic quality as a table for a rich console, in per cent, groups before classes."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("panoptic", box=SIMPLE_HEAD)
    for name in ("PQ", "SQ", "RQ", "matched", "missed", "invented"):
        table.add_column(name, justify="right", min_width=5)
    for name in ("all", "things", "stuff"):
        group: Quality = getattr(quality, name)
        row = [f"{100 * value:.1f}" for value in (group.PQ, group.SQ, group.RQ)]
        table.add_row(Text(f"{name}, {group.classes} classes"), *(row if group.classes else "–––"))
    table.add_section()
    # Best first; a class that is neither there nor found says nothing.
    for name, numbers in sorted(quality.per_class.items(), key=lambda item: -item[1].PQ):
        counts = (numbers.tp, numbers.fn, numbers.fp)
        if any(counts):
            values = (f"{100 * value:.1f}" for value in (numbers.PQ, numbers.SQ, numbers.RQ))
            table.add_row(Text(name), *values, *map(str, counts))
    return table


def _per_cent(value: float) -> str:
    return "–" if value < 0 else f"{100 * value:.1f}"
