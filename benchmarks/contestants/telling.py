"""The race as a table in Markdown and as pictures: AP against minutes."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from setmatch.files import whole_file

Result = Mapping[str, Any]
COLOURS = {
    "setmatch_n": "#d9480f",
    "yolo11n": "#1971c2",
    "dfine_n": "#2f9e44",
    "rtdetr_r18": "#7048e8",
    "fasterrcnn_r50_fpn": "#0c8599",
    "ssdlite_mobilenet_v3": "#a61e4d",
    "detr_r18_tiny": "#868e96",
}
INK, SOFT = "#1d1f24", "#5b6068"
HEAD = (
    "| contestant | seeds | AP | AP50 | at the end | test AP | test AP50 | steps | CPU minutes "
    "| commit |"
)


def best(result: Result) -> Mapping[str, float]:
    """Return the best mark of a run."""
    return max(result["marks"], key=lambda mark: mark["AP"])


def entries(found: Sequence[Result]) -> list[list[Result]]:
    """Return the runs of each contestant, one a seed, the best contestant first."""
    kept: dict[str, list[Result]] = {}
    for result in sorted(found, key=lambda each: each["seed"]):
        kept.setdefault(result["name"], []).append(result)
    return sorted(kept.values(), key=lambda runs: -fmean(best(run)["AP"] for run in runs))


def table(found: Sequence[Result]) -> str:
    """Return Markdown, a table for each track and budget, best first."""

    def kind(result: Result) -> tuple[Any, ...]:
        return result["track"], result["minutes"], result["clock"], result["machine"]

    lines = ["# Time to AP, from random weights", ""]
    for (track, minutes, clock, machine), group in groupby(sorted(found, key=kind), kind):
        lines += [f"## {track}, {minutes:g} minute(s) ({clock}), {machine}", ""]
        lines += [HEAD, "|---" * 10 + "|"]
        lines += [*map(_row, entries(list(group))), ""]
    lines += [
        "AP and AP50 in per cent on the validation split, at the best of the points on the way;",
        "test at the weights of that point; of several seeds the mean ± the standard deviation.",
        "Steps are epochs for YOLO. CPU minutes are those of the whole training command, start and",
        "what it evaluates included; runs of one commit were made side by side. A core whose other",
        "thread is busy takes half as many steps in them. Everyone has one thread; with AMX, a",
        "unit for matrices, all of them compute in bfloat16 that can.",
        "",
    ]
    return "\n".join(lines)


def _row(runs: Sequence[Result]) -> str:
    tops, tests = [best(run) for run in runs], [run["test"] for run in runs if run["test"]]
    cells = [
        runs[0]["name"],
        ", ".join(str(run["seed"]) for run in runs),
        _spread([top["AP"] for top in tops]),
        _spread([top["AP50"] for top in tops]),
        _spread([run["marks"][-1]["AP"] for run in runs]),
        _spread([test["AP"] for test in tests]),
        _spread([test["AP50"] for test in tests]),
        f"{fmean(run['steps'] for run in runs):.0f}",
        _minutes([run["cpu_s"] for run in runs]),
        ", ".join(dict.fromkeys(run["commit"][:7] for run in runs)),
    ]
    return f"| {' | '.join(cells)} |"


def _minutes(seconds: Sequence[float | None]) -> str:
    """Return the mean in minutes; nothing where it was not measured."""
    known = [each for each in seconds if each is not None]
    return f"{fmean(known) / 60:.1f}" if known else ""


def _spread(values: Sequence[float]) -> str:
    """Return the mean in per cent, with the deviation where there are several."""
    if not values:
        return ""
    mean = f"{100 * fmean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * stdev(values):.1f}"


def draw(found: Sequence[Result], path: Path) -> None:
    """Write the curves of a track as PNG: each contestant at its best rate, a line a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    ends: list[tuple[float, float, str]] = []
    for minutes in sorted({each["minutes"] for each in found}):
        ranked = entries([each for each in found if each["minutes"] == minutes])
        chosen = {_family(runs[0]): runs for runs in reversed(ranked)}
        for family, runs in chosen.items():
            ours = family == "setmatch_n"
            for run in runs:
                axes.plot(
                    [0, *(mark["minutes"] for mark in run["marks"])],
                    [0, *(100 * mark["AP"] for mark in run["marks"])],
                    color=COLOURS[family],
                    linewidth=2.6 if ours else 1.6,
                    marker="o",
                    markersize=4,
                    zorder=3 if ours else 2,
                )
            x = max(run["marks"][-1]["minutes"] for run in runs)
            ends.append((x, 100 * fmean(run["marks"][-1]["AP"] for run in runs), family))
    last = max(x for x, _, _ in ends)
    late = [each for each in ends if each[0] > 0.9 * last]
    _name(axes, late, 1.03 * last)
    named = {family for _, _, family in late}
    early = sorted(each for each in ends if each[2] not in named)
    for _, group in groupby(early, lambda each: round(each[0])):
        together = list(group)
        _name(axes, together, together[-1][0] + 0.01 * last)
    axes.set_xlim(0, 1.02 * last)
    axes.set_ylim(bottom=0)
    clocks = " and ".join(sorted({each["clock"] for each in found}))
    axes.set_xlabel(f"minutes of training on one thread ({clocks})", color=SOFT)
    title = f"AP on {found[0]['track']}, from random weights, {found[0]['machine']}"
    axes.set_title(title, loc="left", color=INK, fontsize=12)
    axes.grid(axis="y", color="#e2e4e8")
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    with whole_file(path) as aside:
        figure.savefig(aside, format="png")


def _family(result: Result) -> str:
    return result["name"].partition("@")[0].partition("x1.")[0]


def _name(axes: Any, ends: Sequence[tuple[float, float, str]], x: float) -> None:
    """Write names from `x` on to the right of where curves end, none upon another."""
    top = max(axes.get_ylim()[1], 1)
    gap = 0.055 * top
    height = 0.03 * top - gap  # the lowest clears the axis
    for _, y, family in sorted(ends, key=lambda each: each[1]):
        height = max(y, height + gap)
        axes.annotate(
            f"{family}  {y:.1f}",
            (x, height),
            color=COLOURS[family],
            va="center",
            fontsize=9.5,
            fontweight="bold" if family == "setmatch_n" else "normal",
            annotation_clip=False,
        )
