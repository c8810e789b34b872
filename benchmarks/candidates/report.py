"""Results of the race as Markdown tables and as plots of AP over minutes."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from setmatch.files.writing import atomic_file

Result = Mapping[str, Any]
COLORS = {
    "setmatch_n": "#d9480f",
    "yolo11n": "#1971c2",
    "dfine_n": "#2f9e44",
    "rtdetr_r18": "#7048e8",
    "fasterrcnn_r50_fpn": "#0c8599",
    "ssdlite_mobilenet_v3": "#a61e4d",
    "detr_r18_tiny": "#868e96",
}
TEXT, MUTED = "#1d1f24", "#5b6068"
HEAD = (
    "| candidate | seeds | AP | AP50 | at the end | test AP | test AP50 | steps | CPU minutes "
    "| commit |"
)


def best(result: Result) -> Mapping[str, float]:
    """Return the best evaluation of a run."""
    return max(result["val"], key=lambda point: point["AP"])


def entries(results: Sequence[Result]) -> list[list[Result]]:
    """Return the runs of each candidate, one per seed, the best candidate first."""
    runs_of: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda each: each["seed"]):
        runs_of.setdefault(result["name"], []).append(result)
    return sorted(runs_of.values(), key=lambda runs: -fmean(best(run)["AP"] for run in runs))


def table(results: Sequence[Result]) -> str:
    """Return Markdown with a table for each data set and budget, best first."""

    def kind(result: Result) -> tuple[Any, ...]:
        return result["data"], result["minutes"], result["clock"], result["machine"]

    lines = ["# Time to AP, from random weights", "", *_overviews(results)]
    for (data, minutes, clock, machine), group in groupby(sorted(results, key=kind), kind):
        lines += [f"## {data}, {minutes:g} minute(s) ({clock}), {machine}", ""]
        lines += [HEAD, "|---" * 10 + "|"]
        lines += [*map(_row, entries(list(group))), ""]
    lines += [
        "AP and AP50 are in percent, on the validation split, at the best evaluation of the run.",
        "Test AP is that of the same weights. Several seeds: mean ± standard deviation.",
        "Steps of YOLO are epochs. CPU minutes are those of the whole training command, with start",
        "and evaluations. Runs of one commit ran side by side: a core whose other thread is busy",
        "takes half as many steps. Every candidate has one thread. With AMX, a matrix unit, all",
        "compute in bfloat16 if they can. (float32) marks runs on a core without bfloat16.",
        "",
    ]
    return "\n".join(lines)


def _overviews(results: Sequence[Result]) -> list[str]:
    """Return a table per data set and machine: candidates by budget, each at its best rate."""

    def kind(result: Result) -> tuple[str, str]:
        return result["data"], result["machine"]

    lines = []
    for (data, machine), group in groupby(sorted(results, key=kind), kind):
        runs = list(group)
        budgets = sorted({run["minutes"] for run in runs})
        split = "test" if any(run["test"] for run in runs) else "validation"
        lines += [f"## {data}: AP / AP50 on the {split} split, by minutes; {machine}", ""]
        lines += [f"| | {' | '.join(f'{each:g}' for each in budgets)} |"]
        lines += ["|---" * (len(budgets) + 1) + "|"]
        for family in COLORS:
            cells = [_reached(of_budget(runs, each).get(family, ())) for each in budgets]
            lines += [f"| {family} | {' | '.join(cells)} |"] if any(cells) else []
        lines += [""]
    return lines


def of_budget(results: Sequence[Result], minutes: float) -> dict[str, list[Result]]:
    """Return the runs of a budget by candidate, worst first, each at its best learning rate."""
    ranked = entries([each for each in results if each["minutes"] == minutes])
    return {_family(runs[0]): runs for runs in reversed(ranked)}


def _reached(runs: Sequence[Result]) -> str:
    tops = [run["test"] or best(run) for run in runs]
    spreads = [_spread([top[key] for top in tops]) for key in ("AP", "AP50")]
    return " / ".join(spreads) if runs else ""


def _row(runs: Sequence[Result]) -> str:
    tops, tests = [best(run) for run in runs], [run["test"] for run in runs if run["test"]]
    single = any(run.get("auto_precision") == "float32" for run in runs)
    cells = [
        runs[0]["name"] + " (float32)" * single,
        ", ".join(str(run["seed"]) for run in runs),
        _spread([top["AP"] for top in tops]),
        _spread([top["AP50"] for top in tops]),
        _spread([run["val"][-1]["AP"] for run in runs]),
        _spread([test["AP"] for test in tests]),
        _spread([test["AP50"] for test in tests]),
        f"{fmean(run['steps'] for run in runs):.0f}",
        _minutes([run["cpu_s"] for run in runs]),
        ", ".join(dict.fromkeys(run["commit"][:7] for run in runs)),
    ]
    return f"| {' | '.join(cells)} |"


def _minutes(seconds: Sequence[float | None]) -> str:
    """Return the mean in minutes; empty if it was not measured."""
    known = [each for each in seconds if each is not None]
    return f"{fmean(known) / 60:.1f}" if known else ""


def _spread(values: Sequence[float]) -> str:
    """Return the mean in percent, with the standard deviation if there are several."""
    if not values:
        return ""
    mean = f"{100 * fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * stdev(values):.1f}"


def draw(results: Sequence[Result], path: Path) -> None:
    """Write a PNG of each candidate's AP by budget, with a faint curve for each run.

    Each has its best learning rate for the budget. The AP is that of the best evaluation, as in the
    tables.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    reached: dict[str, list[tuple[float, float]]] = {}
    for minutes in sorted({each["minutes"] for each in results}):
        for family, runs in of_budget(results, minutes).items():
            for run in runs:
                axes.plot(
                    [0, *(point["minutes"] for point in run["val"])],
                    [0, *(100 * point["AP"] for point in run["val"])],
                    color=COLORS[family],
                    linewidth=1,
                    alpha=0.35,
                )
            mean = 100 * fmean(best(run)["AP"] for run in runs)
            reached.setdefault(family, []).append((minutes, mean))
    for family, points in reached.items():
        ours = family == "setmatch_n"
        axes.plot(
            *zip(*points, strict=True),
            color=COLORS[family],
            linewidth=2.6 if ours else 1.6,
            marker="o",
            markersize=7 if ours else 5,
            zorder=3 if ours else 2,
        )
    last = max(points[-1][0] for points in reached.values())
    ends = [(*points[-1], family) for family, points in reached.items()]
    _name(axes, ends, last)
    axes.set_xlim(0, 1.02 * last)
    axes.set_ylim(bottom=0)
    clocks = " and ".join(sorted({each["clock"] for each in results}))
    axes.set_xlabel(f"budget: minutes of training on one thread ({clocks})", color=MUTED)
    title = f"Validation AP on {results[0]['data']}, random weights, {results[0]['machine']}"
    axes.set_title(title, loc="left", color=TEXT, fontsize=12)
    axes.grid(axis="y", color="#e2e4e8")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=TEXT)
    axes.spines[["top", "right", "left"]].set_visible(False)
    with atomic_file(path) as aside:
        figure.savefig(aside, format="png")


def _family(result: Result) -> str:
    return result["name"].partition("@")[0].partition("x1.")[0]


def _name(axes: Any, ends: Sequence[tuple[float, float, str]], last: float) -> None:
    """Label the curves at the right without overlap; note those that ended early."""
    top = max(axes.get_ylim()[1], 1)
    gap = 0.055 * top
    height = 0.03 * top - gap  # keeps the lowest above the axis
    for minutes, y, family in sorted(ends, key=lambda each: each[1]):
        height = max(y, height + gap)
        early = f" after {minutes:g}" if minutes < last else ""
        axes.annotate(
            f"{family}  {y:.1f}{early}",
            (1.03 * last, height),
            color=COLORS[family],
            va="center",
            fontsize=9.5,
            fontweight="bold" if family == "setmatch_n" else "normal",
            annotation_clip=False,
        )
