"""Draw training curves as a PNG with matplotlib, because nothing installed can rasterize SVG."""

from collections.abc import Sequence
from pathlib import Path

from setmatch.errors import ExtraMissingError
from setmatch.files.writing import atomic_file
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.panels import COLORS, Panel, panels

_MAX_COLUMNS = 3
_PANEL_INCHES = (4.4, 2.9)
_DPI = 130
_MAX_MARKED = 40  # points that are also drawn as dots; of several runs, every curve has some
_MARKERS = "osD^vPX*"  # of the runs, in the order of their colors


def write_png(histories: Sequence[History], path: Path) -> None:
    """Write the curves of some runs as a PNG. Raises ExtraMissingError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ExtraMissingError(
            f'{path}: a PNG needs matplotlib; pip install "setmatch[plots]", or write .html'
        ) from None
    drawn = panels(histories)
    columns = min(_MAX_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    width, height = _PANEL_INCHES
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        if number < len(drawn):
            _draw(axes, drawn[number])
        else:
            axes.set_axis_off()
    names = [history.name for history in histories]
    handles = [
        handle
        for number, name in enumerate(names)
        for color in (COLORS[number % len(COLORS)],)
        for handle in grid.flat[0].plot([], [], color=color, marker=_marker(color), label=name)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    with atomic_file(path) as aside:
        figure.savefig(aside, format="png", dpi=_DPI)


def _marker(color: str) -> str:
    """Return the marker that goes with a color, for those who do not tell the colors apart."""
    return _MARKERS[COLORS.index(color)]


def _draw(axes: "object", panel: Panel) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for line in panel.lines:
        steps, values = zip(*line.points, strict=True)
        axes.plot(
            steps,
            values,
            color=line.color,
            linestyle=(0, (4, 2)) if line.dashed else "-",
            alpha=0.7 if line.dashed else 1.0,
            linewidth=1.6,
            marker=_marker(line.color) if line.tag or len(steps) <= _MAX_MARKED else None,
            markevery=-(-len(steps) // _MAX_MARKED),
            markersize=3,
        )
    title = panel.title + ("; dashed: AP50" if any(line.dashed for line in panel.lines) else "")
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    if panel.from_zero:
        axes.set_ylim(bottom=0)
