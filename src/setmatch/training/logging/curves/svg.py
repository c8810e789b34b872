"""Lay out panels of training curves as charts of a page."""

from setmatch.html.charts import Axis, Chart, Curve, line_chart, round_ticks
from setmatch.training.logging.curves.panels import Line, Panel

_MAX_MARKED = 40  # points that are also drawn as dots


def chart(panel: Panel) -> Chart:
    """Lay out a panel; the caption of a single run ends with its latest value."""
    steps = [step for line in panel.lines for step, _ in line.points]
    values = [value for line in panel.lines for _, value in line.points]
    low, high = 0.0 if panel.from_zero else min(values), max(values)
    if high <= low:
        high = low + (abs(low) or 1.0)
    main = [line for line in panel.lines if not line.dashed]
    latest = f": {main[0].points[-1][1]:.3g}" if len(main) == 1 else ""
    return line_chart(
        [
            Curve(line.name, line.points, line.color, line.dashed, _marks(line))
            for line in panel.lines
        ],
        f"{panel.title}{latest}",
        Axis("step", round_ticks(0.0, max(steps)), short),
        Axis("", round_ticks(low, high), short),
        legend=False,
    )


def short(value: float) -> str:
    """Write a number for an axis: 12k, 0.25, 5e-5."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{round(value, 10):g}"


def _marks(line: Line) -> list[tuple[float, float, str]]:
    if len(line.points) > _MAX_MARKED:
        return []
    return [
        (step, value, f"{line.name}, step {step:,.0f}: {value:.4g}") for step, value in line.points
    ]
