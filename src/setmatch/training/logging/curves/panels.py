"""Which curves are drawn: a panel for each column, a line in it for each run."""

from collections.abc import Sequence
from dataclasses import dataclass

from setmatch.training.logging.curves.history import History, Points
from setmatch.training.logging.writers import loss_terms

# Told apart by hue and by lightness, on white and on black.
COLORS = (
    *("#2f7ed8", "#e07b1a", "#2f9e44", "#d6336c", "#7950f2", "#1098ad", "#a0622d", "#868e96"),
)
_COLUMNS = (  # kind of row, column, title, whether the axis begins at 0
    ("val", "PQ", "panoptic quality on the validation images", True),
    ("val", "mask_AP", "mask AP on the validation images", True),
    ("val", "AP", "AP on the validation images", True),
    ("train", "loss", "loss, all terms and decoder layers", False),
    ("train", "class", "class loss of the last layer", False),
    ("train", "l1", "L1 of the boxes", False),
    ("train", "giou", "1 − GIoU of the boxes", False),
    ("train", "mask", "focal loss of the masks", False),
    ("train", "dice", "DICE loss of the masks", False),
    ("train", "lr", "learning rate", True),
)
_NOT_DRAWN = {"class_error", "cardinality_error"}
_MOST_POINTS = 400


@dataclass(frozen=True)
class Line:
    """One curve: what it is called, its color, and its points; `light` for a companion."""

    name: str
    color: str
    points: Points
    light: bool = False


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes."""

    title: str
    lines: tuple[Line, ...]
    from_zero: bool


def panels(histories: Sequence[History]) -> list[Panel]:
    """Return the panels that any of the runs has something for; AP50 goes with AP, lighter."""
    found = []
    for kind, column, title, from_zero in _columns(histories):
        lines: list[Line] = []
        for number, history in enumerate(histories):
            color = COLORS[number % len(COLORS)]
            lines.append(Line(history.name, color, thinned(history.points(kind, column))))
            if column == "AP":
                lighter = thinned(history.points(kind, "AP50"))
                lines.append(Line(f"{history.name}, AP50", color, lighter, light=True))
        drawn = tuple(line for line in lines if line.points)
        if drawn:
            found.append(Panel(title, drawn, from_zero))
    return found


def _columns(histories: Sequence[History]) -> list[tuple[str, str, str, bool]]:
    """Return `_COLUMNS`, with the runs' other loss terms before the learning rate."""
    known = {column for _, column, _, _ in _COLUMNS} | _NOT_DRAWN
    rows = [row for history in histories for row in history.rows if row["kind"] == "train"]
    names = dict.fromkeys(name for row in rows for name in loss_terms(row) if name not in known)
    others = [("train", name, f"loss term {name}", False) for name in names]
    return [*_COLUMNS[:-1], *others, _COLUMNS[-1]]


def thinned(points: Points) -> Points:
    """Return at most some hundred points, each the mean of as many neighbors."""
    group = -(-len(points) // _MOST_POINTS)
    if group <= 1:
        return points
    parts = [points[start : start + group] for start in range(0, len(points), group)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]
