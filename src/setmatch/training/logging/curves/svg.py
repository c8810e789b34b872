"""Lay out panels of training curves as charts of a page."""

from setmatch.html.charts import DASHES, Axis, Chart, Curve, line_chart, round_ticks, short
from setmatch.training.logging.curves.panels import Line, Panel

_MAX_MARKED = 40  # points that are also drawn as dots
_UNITS = (
    (10_800.0, 3600.0, "h"),
    (180.0, 60.0, "min"),
    (0.0, 1.0, "s"),
)  # from how many seconds on


def chart(panel: Panel) -> Chart:
    """Lay out a panel; the caption of a single run ends with its latest value."""
    most = max(x for line in panel.lines for x, _ in line.points)
    name, unit = "step", 1.0
    if panel.along == "seconds":
        unit, sign = next((unit, sign) for start, unit, sign in _UNITS if most >= start)
        name = f"training time, {sign}"
    values = [value for line in panel.lines for _, value in line.points]
    low, high = 0.0 if panel.from_zero else min(values), max(values)
    if high <= low:
        high = low + (abs(low) or 1.0)
    main = [line for line in panel.lines if not line.dashed]
    latest = f": {main[0].points[-1][1]:.3g}" if len(main) == 1 else ""
    return line_chart(
        [
            Curve(
                line.name,
                [(x / unit, value) for x, value in line.points],
                line.color,
                DASHES[1] if line.dashed else "",
                _marks(line, name, unit),
                line.tag,
            )
            for line in panel.lines
        ],
        f"{panel.title}{latest}",
        Axis(name, round_ticks(0.0, most / unit), short),
        Axis("", round_ticks(low, high), short),
        legend=False,
    )


def _marks(line: Line, axis: str, unit: float) -> list[tuple[float, float, str]]:
    if len(line.points) > _MAX_MARKED:
        return []
    return [
        (x / unit, value, f"{line.name}, {_place(x / unit, axis)}: {value:.4g}")
        for x, value in line.points
    ]


def _place(x: float, axis: str) -> str:
    return f"step {x:,.0f}" if axis == "step" else f"{x:.3g} {axis.rpartition(' ')[2]}"
