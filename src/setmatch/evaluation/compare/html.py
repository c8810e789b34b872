"""Write a comparison of detectors as one self-contained HTML page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from setmatch.evaluation.compare.compare import MASKS, PRECISIONS, Comparison, Row
from setmatch.html.charts import (
    Axis,
    Chart,
    Curve,
    LogAxis,
    line_chart,
    log_ticks,
    round_ticks,
)
from setmatch.html.page import write
from setmatch.ops.colors import css_color_of


@dataclass(frozen=True)
class _Cell:
    """A number of the tables; `is_best` where it is the highest of its column."""

    text: str
    is_best: bool


@dataclass(frozen=True)
class _Table:
    """One number a column, and per detector its name and cells."""

    head: Sequence[str]
    rows: Sequence[tuple[str, list[_Cell]]]


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as one self-contained HTML page."""
    write(
        path,
        "evaluation/compare/compare.html",
        count=len(comparison.rows),
        measured_on=comparison.measured_on,
        tables=list(_tables(comparison)),
        chart=_chart(comparison),
        doubts=comparison.doubts(),
        notes=comparison.notes(),
    )


def _tables(comparison: Comparison) -> Iterator[_Table]:
    best = {name: _best(comparison, name) for name in (*PRECISIONS, *MASKS)}
    for heads, rows in comparison.tables():
        cells = [
            [
                _Cell(text, row in best.get(head, ()))
                for head, text in zip(heads, texts, strict=True)
            ]
            for row, texts in zip(comparison.rows, rows, strict=True)
        ]
        names = [row.name for row in comparison.rows]
        yield _Table(heads, list(zip(names, cells, strict=True)))


def _best(comparison: Comparison, name: str) -> list[Row]:
    """Return the rows with the highest value, where at least two rows have one."""
    measured = [(row.metrics[name], row) for row in comparison.rows if name in row.metrics]
    highest = max((value for value, _ in measured), default=-1)
    return [row for value, row in measured if value == highest >= 0] if len(measured) > 1 else []


def _chart(comparison: Comparison) -> Chart | None:
    """Return AP against latency, for the rows that have both; None for fewer than two."""
    points = [
        (row.name, 1000 * row.cost.latency_s, 100 * row.precision.AP)
        for row in comparison.rows
        if row.cost is not None and row.precision is not None and row.precision.AP >= 0
    ]
    if len(points) < 2:
        return None
    latencies, precisions = [ms for _, ms, _ in points], [ap for _, _, ap in points]
    dots = [
        Curve(
            name,
            (),
            css_color_of(number),
            marks=[(ms, ap, f"{name}: {ms:.3g} ms, AP {ap:.1f}")],
            tag=str(number + 1),
        )
        for number, (name, ms, ap) in enumerate(points)
    ]
    x = LogAxis("latency, ms per image", log_ticks(min(latencies), max(latencies)))
    y = Axis("AP", round_ticks(min(precisions), max(precisions)))
    return line_chart(dots, "AP against latency: up is more accurate, left is faster", x, y)
