"""A comparison as one page of HTML that needs nothing beside it."""

import html
import math
import string
from collections.abc import Iterator
from pathlib import Path

from setmatch.evaluate.compare.comparison import MASKS, PRECISIONS, Comparison, Row
from setmatch.files import whole_file

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDTH, _HEIGHT, _LEFT, _FOOT, _RIGHT, _TOP = 520, 320, 36, 44, 120, 12
_GRID = 5
_CROWDED = 16  # names closer than this to one another are set apart, in the chart's units


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as one self-contained HTML page."""
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    count = len(comparison.rows)
    text = template.substitute(
        count=f"{count} detector{'' if count == 1 else 's'}",
        measured_on=html.escape(comparison.measured_on),
        tables="".join(_tables(comparison)),
        chart=_chart(comparison),
        notes="".join(f"<li>{html.escape(note)}</li>" for note in comparison.notes()),
    )
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


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
    most_ms = _round_up(max(ms for _, ms, _ in points))
    most_ap = _round_up(max(ap for _, _, ap in points))
    parts = [*_grid(most_ms, most_ap)]
    taken: list[tuple[float, float]] = []
    for name, ms, ap in sorted(points, key=lambda point: -point[2]):
        x, y = _x(ms / most_ms), _y(ap / most_ap)
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5">'
            f"<title>{html.escape(name)}: {ms:.3g} ms, AP {ap:.1f}</title></circle>"
        )
        # Names run over 100 units; below another one that is near, a name moves down.
        beside = [v for u, v in taken if abs(u - x) < 100 and abs(v - y) < _CROWDED]
        label = max(beside, default=y - _CROWDED) + _CROWDED
        taken.append((x, label))
        parts.append(
            f'<text class="name" x="{x + 9:.1f}" y="{label + 4:.1f}">{html.escape(name)}</text>'
        )
    return (
        "<h2>Precision against time</h2><figure>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="AP against latency">'
        f"{''.join(parts)}</svg></figure>"
    )


def _grid(most_ms: float, most_ap: float) -> list[str]:
    parts = []
    for number in range(_GRID + 1):
        part = number / _GRID
        x, y = _x(part), _y(part)
        parts += [
            f'<line x1="{_x(0)}" x2="{_x(1)}" y1="{y:.1f}" y2="{y:.1f}"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{most_ap * part:g}</text>',
            f'<text x="{x:.1f}" y="{_HEIGHT - _FOOT + 18}" text-anchor="middle">'
            f"{most_ms * part:g}</text>",
        ]
    return [
        *parts,
        f'<text x="{_x(0.5)}" y="{_HEIGHT - 4}" text-anchor="middle">latency, ms a picture</text>',
        f'<text x="{_LEFT + 4}" y="{_TOP + 12}">AP</text>',
    ]


def _x(part: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * part


def _y(part: float) -> float:
    return _HEIGHT - _FOOT - (_HEIGHT - _FOOT - _TOP) * part


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 ... whose fifths are round."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-9)))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
