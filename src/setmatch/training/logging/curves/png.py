"""Curves as a picture; the only file that needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.errors import ExtraMissingError
from setmatch.files import atomic_file
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.panels import COLORS, Panel, panels

_COLUMNS = 3
_PANEL_INCHES = (4.4, 2.9)
_DPI = 130
_DOTS = 40


def write_picture(histories: Sequence[History], path: Path) -> None:
    """Write the curves of some runs as a PNG; raises ExtraMissingError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ExtraMissingError(
            f'{path}: drawing it needs matplotlib; pip install "setmatch[plots]", or write .html'
        ) from None
    drawn = panels(histories)
    across = min(_COLUMNS, len(drawn))
    down = -(-len(drawn) // across)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * across, height * down + 0.5), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place < len(drawn):
            _draw(axes, drawn[place])
        else:
            axes.set_axis_off()
    names = [history.name for history in histories]
    handles = [
        axes_line
        for number, name in enumerate(names)
        for axes_line in grid.flat[0].plot([], [], color=COLORS[number % len(COLORS)], label=name)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    with atomic_file(path) as aside:
        figure.savefig(aside, format="png", dpi=_DPI)


def _draw(axes: "object", panel: Panel) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes), "subplots are axes"
    for line in panel.lines:
        steps, values = zip(*line.points, strict=True)
        axes.plot(
            steps,
            values,
            color=line.color,
            linestyle=(0, (4, 2)) if line.light else "-",
            alpha=0.7 if line.light else 1.0,
            linewidth=1.6,
            marker="o" if len(steps) <= _DOTS else None,
            markersize=3,
        )
    title = panel.title + ("; dashed: AP50" if any(line.light for line in panel.lines) else "")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
