"""The panels as charts of a page."""

from setmatch.html.charts import Axis, Curve, curves, round_ticks
from setmatch.training.logging.curves.panels import Line, Panel

_MARKED = 40  # few points are also shown as such


def chart(panel: Panel) -> str:
    """Return a panel as a figure; of one run alone its caption tells the newest value."""
    steps = [step for line in panel.lines for step, _ in line.points]
    values = [value for line in panel.lines for _, value in line.points]
    low, high = 0.0 if panel.from_zero else min(values), max(values)
    if high <= low:
        high = low + (abs(low) or 1.0)
    plain = [line for line in panel.lines if not line.light]
    newest = f": {plain[0].points[-1][1]:.3g}" if len(plain) == 1 else ""
    return curves(
        [
            Curve(each.name, each.points, each.color, each.light, _marks(each))
            for each in panel.lines
        ],
        f"{panel.title}{newest}",
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
    if len(line.points) > _MARKED:
        return []
    return [
        (step, value, f"{line.name}, step {step:,.0f}: {value:.4g}") for step, value in line.points
    ]
