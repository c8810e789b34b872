"""The table of classes on the live page: the latest score, its change, the best, and the way."""

from collections.abc import Sequence
from dataclasses import dataclass

from setmatch.html.tables import percent
from setmatch.training.logging.live.samples import MOST_LETTERS, Samples

_WIDTH, _HEIGHT = 120, 24


@dataclass(frozen=True)
class ClassRow:
    """A class: cells of text, and its scores over the evaluations as an SVG path."""

    name: str
    objects: str
    latest: str
    change: str
    best: str
    path: str


def class_rows(samples: Samples) -> list[ClassRow]:
    """Return a row for each class that is followed, those with the most objects first."""
    steps = [each.step for each in samples.evaluations]
    rows = []
    for column, (name, count) in enumerate(samples.classes):
        scores = [each.class_scores[column] for each in samples.evaluations]
        known = [score for score in scores if score is not None]
        change = ""
        if len(known) > 1 and scores[-1] is not None:
            gained = (known[-1] - known[-2]) / 10
            change = f"{gained:+.1f}".replace("-", "−")
        rows.append(
            ClassRow(
                name[:MOST_LETTERS],
                f"{count:,}",
                _percent(scores[-1] if scores else None),
                change,
                _percent(max(known, default=None)),
                _path(steps, scores),
            )
        )
    return rows


def _percent(score: int | None) -> str:
    return percent(None if score is None else score / 1000)


def _path(steps: Sequence[int], scores: Sequence[int | None]) -> str:
    """Return the curve of scores from 0 to 1 over steps, in a box of 120 × 24."""
    first, length = steps[0] if steps else 0, max(steps[-1] - steps[0], 1) if steps else 1
    points = [
        f"{_WIDTH * (step - first) / length:.0f} {_HEIGHT - _HEIGHT * score / 1000:.0f}"
        for step, score in zip(steps, scores, strict=True)
        if score is not None
    ]
    return f"M{'L'.join(points)}" if len(points) > 1 else ""
