"""Lay out panels of training curves as charts of a page."""

from setmatch.html.charts import DASHES, Axis, Chart, Curve, line_chart, round_ticks, short
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
            Curve(
                line.name,
                line.points,
                line.color,
                DASHES[1] if line.dashed else "",
                _marks(line),
                line.tag,
            )
            for line in panel.lines
        ],
        f"{panel.title}{latest}",
        Axis("step", round_ticks(0.0, max(steps)), short),
        Axis("", round_ticks(low, high), short),
        legend=False,
    )


def _marks(line: Line) -> list[tuple[float, float, str]]:
    if len(line.points) > _MAX_MARKED:
        return []
    return [
        (step, value, f"{line.name}, step {step:,.0f}: {value:.4g}") for step, value in line.points
    ]
