"""Choose which curves are drawn: a panel for each column of the log, a line for each run."""

from collections.abc import Sequence
from dataclasses import dataclass

from setmatch.training.logging.curves.history import History, Points
from setmatch.training.logging.writers import loss_terms

# They differ in hue and in lightness, on white and on black.
COLORS = (
    *("#2f7ed8", "#e07b1a", "#2f9e44", "#d6336c", "#7950f2", "#1098ad", "#a0622d", "#868e96"),
)
_COLUMNS = (  # kind of row, column, title, whether the axis starts at 0
    ("val", "PQ", "validation PQ (panoptic quality), in percent", True),
    ("val", "mask_AP", "validation mask AP, in percent", True),
    ("val", "AP", "validation AP, in percent", True),
    ("train", "loss", "total loss, summed over decoder layers", False),
    ("train", "class", "classification loss, last layer", False),
    ("train", "l1", "box L1 loss", False),
    ("train", "giou", "box GIoU loss (1 − GIoU)", False),
    ("train", "mask", "mask focal loss", False),
    ("train", "dice", "mask DICE loss", False),
)
_LR = ("train", "lr", "learning rate", True)
_NOT_DRAWN = {"class_error", "cardinality_error"}
_MAX_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve; a companion of another curve is dashed. `tag` numbers the run among several."""

    name: str
    color: str
    points: Points
    dashed: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes: values over steps, or over seconds of training."""

    title: str
    lines: tuple[Line, ...]
    from_zero: bool
    along: str = "step"


def panels(histories: Sequence[History], along: str = "step") -> list[Panel]:
    """Return a panel for each column that any run has; AP50 is drawn dashed beside AP.

    A loss term without a title of its own gets a panel too, named after its column. `along` is what
    the horizontal axis shows: "step", or "seconds" of training.
    """
    drawn = []
    for kind, column, title, from_zero in (*_COLUMNS, *_other_losses(histories), _LR):
        lines: list[Line] = []
        for number, history in enumerate(histories):
            color = COLORS[number % len(COLORS)]
            points = _points(history, kind, column, along)
            lines.append(Line(history.name, color, points, tag=tag_of(number, histories)))
            if column == "AP":
                ap50 = _points(history, kind, "AP50", along)
                lines.append(Line(f"{history.name}, AP50", color, ap50, dashed=True))
        filled = tuple(line for line in lines if line.points)
        if filled:
            drawn.append(Panel(title, filled, from_zero, along))
    return drawn


def tag_of(number: int, histories: Sequence[History]) -> str:
    """Return what marks the curves of run `number` beside their color: nothing for a single run."""
    return str(number + 1) if len(histories) > 1 else ""


def _points(history: History, kind: str, column: str, along: str) -> Points:
    """Return the points to draw; metrics of an evaluation in percent, as everywhere in text."""
    factor = 100 if kind == "val" else 1
    return thin_out([(x, factor * value) for x, value in history.points(kind, column, along)])


def _other_losses(histories: Sequence[History]) -> list[tuple[str, str, str, bool]]:
    """Return the loss columns of the last layer that have no title above, in order of the log."""
    known = _NOT_DRAWN | {column for _, column, _, _ in _COLUMNS}
    rows = [row for history in histories for row in history.rows if row["kind"] == "train"]
    columns = dict.fromkeys(name for row in rows for name in loss_terms(row))
    return [
        ("train", column, f"{column} loss, last layer", False)
        for column in columns
        if column not in known
    ]


def thin_out(points: Points) -> Points:
    """Return at most 400 points, each the mean of equally many neighbors."""
    group = -(-len(points) // _MAX_POINTS)
    if group <= 1:
        return points
    parts = [points[start : start + group] for start in range(0, len(points), group)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]
