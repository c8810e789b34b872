"""Write the curves of runs as one self-contained HTML page."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.html.charts import LegendEntry
from setmatch.html.page import write
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.panels import COLORS, panels, tag_of
from setmatch.training.logging.curves.svg import chart


def write_page(histories: Sequence[History], path: Path) -> None:
    """Write the curves of some runs as one self-contained page."""
    write(
        path,
        "training/logging/curves/curves.html",
        name=histories[0].name if len(histories) == 1 else f"{len(histories)} runs",
        summaries=[history.summary() for history in histories],
        **curve_context(histories),
    )


def curve_context(histories: Sequence[History]) -> dict[str, object]:
    """Return what curves.html needs of some runs: legend, charts, and the monitor's warnings."""
    is_alone = len(histories) == 1
    drawn = panels(histories)
    named = [
        LegendEntry(history.name, COLORS[number % len(COLORS)], sign=tag_of(number, histories))
        for number, history in enumerate(histories)
    ]
    return {
        "warnings": [
            (text, f"step {step:,}" if is_alone else f"{history.name}, step {step:,}")
            for history in histories
            for step, text in history.remarks
        ],
        "legend": [] if is_alone else named,
        "has_dashed": any(line.dashed for panel in drawn for line in panel.lines),
        "charts": [chart(panel) for panel in drawn],
        "charts_by_time": [chart(panel) for panel in panels(histories, "seconds")],
    }
