"""A comparison as one page of HTML that needs nothing beside it."""

import html
from collections.abc import Iterator
from pathlib import Path

from setmatch.evaluation.compare.compare import MASKS, PRECISIONS, Comparison, Row
from setmatch.html.charts import (
    Axis,
    Curve,
    LogAxis,
    color_of,
    curves,
    round_factors,
    round_ticks,
)
from setmatch.html.page import write_sheet

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as one self-contained HTML page."""
    count = len(comparison.rows)
    parts = {
        "count": f"{count} detector{'' if count == 1 else 's'}",
        "measured_on": html.escape(comparison.measured_on),
        "tables": "".join(_tables(comparison)),
        "chart": _chart(comparison),
        "notes": "".join(f"<li>{html.escape(note)}</li>" for note in comparison.notes()),
    }
    write_sheet(_TEMPLATE, parts, path)


def _tables(comparison: Comparison) -> Iterator[str]:
    best = {name: _best(comparison, name) for name in (*PRECISIONS, *MASKS)}
    for heads, rows in comparison.tables():
        lines = []
        for row, cells in zip(comparison.rows, rows, strict=True):
            marked = (
                f'<td class="best">{cell}</td>' if row in best.get(head, ()) else f"<td>{cell}</td>"
                for head, cell in zip(heads, cells, strict=True)
            )
            lines.append(f"<tr><td>{html.escape(row.name)}</td>{''.join(marked)}</tr>")
        head = "".join(f"<th>{name}</th>" for name in heads)
        yield f'<div class="wide"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def _best(comparison: Comparison, name: str) -> list[Row]:
    """Return the rows where it is highest, where there is something to choose from."""
    measured = [(row.found[name], row) for row in comparison.rows if name in row.found]
    most = max((value for value, _ in measured), default=-1)
    return [row for value, row in measured if value == most >= 0] if len(measured) > 1 else []


def _chart(comparison: Comparison) -> str:
    """Return precision against latency, for the rows that have both."""
    points = [
        (row.name, 1000 * row.cost.latency_s, 100 * row.precision.AP)
        for row in comparison.rows
        if row.cost is not None and row.precision is not None and row.precision.AP >= 0
    ]
    if len(points) < 2:
        return ""
    latencies, precisions = [ms for _, ms, _ in points], [ap for _, _, ap in points]
    dots = [
        Curve(name, (), color_of(number), marks=[(ms, ap, f"{name}: {ms:.3g} ms, AP {ap:.1f}")])
        for number, (name, ms, ap) in enumerate(points)
    ]
    x = LogAxis("latency, ms a picture", round_factors(min(latencies), max(latencies)))
    y = Axis("AP", round_ticks(min(precisions), max(precisions)))
    drawn = curves(dots, "AP against latency; what is further to the left is faster", x, y)
    return f'<h2>Precision against time</h2><div class="charts">{drawn}</div>'
