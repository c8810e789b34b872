"""Plot of a study: the AP difference of each arm to the reference, here and in the paper."""

from pathlib import Path
from typing import Any

from setmatch.ablation.tables import Table
from setmatch.errors import ExtraMissingError
from setmatch.files.writing import atomic_file

HERE, PAPER, TEXT, MUTED = "#2b6cb0", "#d97706", "#1d1f24", "#5b6068"
ROW_OFFSET = 0.14  # in rows, between our result and the paper's


def figure_class() -> Any:
    """Return matplotlib's Figure. Raises ExtraMissingError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ExtraMissingError("plots need matplotlib: pip install 'setmatch[plots]'") from None
    return Figure


def draw_study(table: Table, path: Path) -> None:
    """Write the plot as PNG. Raises ExtraMissingError if matplotlib is not installed."""
    arms = table.study.arms
    figure = figure_class()(figsize=(7.2, 1.7 + 0.46 * len(arms)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=MUTED, linewidth=0.8)
    reference = table.average(table.reference)
    for row, (arm, outcomes) in enumerate(zip(arms, table.outcomes, strict=True)):
        published = table.published_gain(arm)
        if published is not None:
            axes.plot(published, row + ROW_OFFSET, "D", color=PAPER, markersize=7)
        if reference is None:
            continue
        for outcome in outcomes:
            axes.plot(100 * outcome.AP - reference, row - ROW_OFFSET, "o", color=HERE, alpha=0.35)
        gain = table.gain(arm)
        if gain is not None:
            axes.plot(gain, row - ROW_OFFSET, "o", color=HERE, markersize=9)
    axes.plot([], [], "o", color=HERE, label="here")
    if any(table.published_gain(arm) is not None for arm in arms):
        axes.plot([], [], "D", color=PAPER, label="the paper, on COCO")
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlabel(f"AP, difference to “{table.reference.name}” in points", color=MUTED)
    axes.set_title(table.study.about, loc="left", color=TEXT)
    axes.grid(axis="x", color="#e2e4e8")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=TEXT)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")
