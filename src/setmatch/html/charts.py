"""Lay out histograms and curves; the macro `chart` of parts.html draws them as inline SVG."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Patterns of lines (SVG's stroke-dasharray), so that curves differ by more than their color.
DASHES = ("", "7 4", "2 4", "11 4 2 4")
_WIDTH = 320
_HISTOGRAM_HEIGHT, _HISTOGRAM_TOP, _HISTOGRAM_BOTTOM = 130, 8, 18
_HISTOGRAM_TICKS = 4
_MAX_EDGE_LABELS = 6
_MIN_BARS = 8
_CURVES_HEIGHT = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 16, 8, 32  # margins around curves
_TAG_PX = 9  # between the baselines of tags


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y), broken at None; `marks` are dots (x, y, tooltip).

    Those of a dashed curve are rings: a curve of one point has no line to tell it by.

    `dash` is a pattern of the line, such as one of DASHES. `tag` is a short text, such as a number,
    that is written at the end of the curve and in the legend.
    """

    name: str
    points: Sequence[tuple[float, float] | None]
    color: str
    dash: str = ""
    marks: Sequence[tuple[float, float, str]] = ()
    tag: str = ""


@dataclass(frozen=True)
class Axis:
    """The quantity along an axis, its ticks in order, and how to write a tick."""

    name: str
    ticks: Sequence[float]
    format: Callable[[float], str] = "{:g}".format

    def position(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


@dataclass(frozen=True)
class LogAxis(Axis):
    """A logarithmic axis: equal factors have equal lengths."""

    def position(self, value: float) -> float:
        """Return where a value above 0 lies: 0 at the first tick, 1 at the last."""
        return math.log(value / self.ticks[0]) / math.log(self.ticks[-1] / self.ticks[0])


@dataclass(frozen=True)
class ChartBar:
    """A bar of a histogram with its tooltip."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class ChartLine:
    """A curve as an SVG path with its tooltip."""

    path: str
    color: str
    title: str
    dash: str


@dataclass(frozen=True)
class ChartDot:
    """A marked point with its tooltip: a dot, or a ring."""

    x: float
    y: float
    color: str
    title: str
    hollow: bool = False


@dataclass(frozen=True)
class ChartText:
    """A label; `anchor` is the SVG text-anchor."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    vertical: bool = False


@dataclass(frozen=True)
class LegendEntry:
    """A name, and what its curve or box looks like: color, pattern, and a sign in its label."""

    name: str
    color: str
    dash: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart laid out in a coordinate system of `width_px` by `height_px`."""

    caption: str
    height_px: int
    bars: Sequence[ChartBar] = ()
    grid: str = ""
    lines: Sequence[ChartLine] = ()
    dots: Sequence[ChartDot] = ()
    texts: Sequence[ChartText] = ()
    legend: Sequence[LegendEntry] = ()
    width_px: int = _WIDTH


def histogram(
    counts: Sequence[int],
    edges: Sequence[float],
    caption: str,
    counted: str,
    format_edge: Callable[[float], str],
) -> Chart:
    """Lay out a histogram; the tooltip of a bar gives its range and its count of `counted`.

    Bar i covers edges i to i + 1. Empty bars at both ends are left out while at least eight remain.
    """
    filled = [number for number, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, 0)
    while last - first + 1 < min(_MIN_BARS, len(counts)):
        first, last = max(first - 1, 0), min(last + 1, len(counts) - 1)
    counts, edges = counts[first : last + 1], edges[first : last + 2]
    step = (_WIDTH - _LEFT) / len(counts)
    baseline = _HISTOGRAM_HEIGHT - _HISTOGRAM_BOTTOM
    ticks = count_ticks(max(counts))
    unit = (baseline - _HISTOGRAM_TOP) / ticks[-1]
    bars = []
    for number, count in enumerate(counts):
        height = unit * count
        low, high = format_edge(edges[number]), format_edge(edges[number + 1])
        bars.append(
            ChartBar(
                round(_LEFT + step * number + 1, 1),
                round(baseline - height, 1),
                round(max(step - 2, 1.0), 1),
                round(height, 1),
                f"from {low} to below {high}: {count:,} {counted}",
            )
        )
    grid = "".join(f"M{_LEFT} {baseline - unit * tick:.1f}H{_WIDTH}" for tick in ticks)
    texts = [
        ChartText(_LEFT - 5.0, round(baseline - unit * tick + 3.5, 1), short(float(tick)), "end")
        for tick in ticks
    ]
    for number in range(0, len(edges), -(-len(edges) // _MAX_EDGE_LABELS)):
        anchor = "start" if number == 0 else "end" if number == len(counts) else "middle"
        label = format_edge(edges[number])
        x = round(_LEFT + step * number, 1)
        texts.append(ChartText(x, _HISTOGRAM_HEIGHT - 4.0, label, anchor))
    return Chart(caption, _HISTOGRAM_HEIGHT, bars=bars, grid=grid, texts=texts)


def line_chart(
    curves: Sequence[Curve], caption: str, x: Axis, y: Axis, legend: bool = True
) -> Chart:
    """Lay out curves over a grid, with a legend where there are several.

    The tooltip of a curve is its name.
    """
    grid, texts = _grid(x, y)
    named = [LegendEntry(curve.name, curve.color, curve.dash, curve.tag) for curve in curves]
    return Chart(
        caption,
        _CURVES_HEIGHT,
        grid=grid,
        lines=[
            ChartLine(_path(curve.points, x, y), curve.color, curve.name, curve.dash)
            for curve in curves
        ],
        dots=[
            ChartDot(
                round(_x_px(x, u), 1), round(_y_px(y, v), 1), curve.color, title, bool(curve.dash)
            )
            for curve in curves
            for u, v, title in curve.marks
        ],
        texts=[*texts, *_tags(curves, x, y)],
        legend=named if legend and len(named) > 1 else (),
    )


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers at equal steps that enclose `low` to `high`."""
    if low == high == 0:
        high = 1.0  # zeros alone say nothing of a scale
    spread = max(high - low, 1e-3 * abs(high), 1e-9)
    power = 10.0 ** math.floor(math.log10(spread / (most - 1)))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if max(last, first + 1) - first < most:
            break
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def count_ticks(highest: int) -> list[int]:
    """Return at most four whole numbers at equal round steps, from 0 to `highest` or above."""
    powers = itertools.count()
    steps = (digit * 10**power for power in powers for digit in (1, 2, 5))
    step = next(step for step in steps if highest <= step * (_HISTOGRAM_TICKS - 1))
    return [step * number for number in range(max(-(-highest // step), 1) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return round numbers for a logarithmic axis that enclose `low` to `high`, both above 0.

    At most `most` of them, unless the powers of ten alone are more.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        numbers = [digit * 10.0**power for power in powers for digit in digits]
        first = max(at for at, number in enumerate(numbers) if number <= low * (1 + 1e-9))
        last = min(at for at, number in enumerate(numbers) if number >= high * (1 - 1e-9))
        ticks = numbers[first : max(last, first + 1) + 1]
        if len(ticks) <= most:
            break
    return [float(f"{tick:.1g}") for tick in ticks]


def short(value: float) -> str:
    """Write a number for an axis: 12k, 0.25, 5e-5."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{round(value, 10):g}"


def _tags(curves: Sequence[Curve], x: Axis, y: Axis) -> list[ChartText]:
    """Return the tags of curves beside their last points or marks, moved down to stay apart."""
    ends = []
    for curve in curves:
        points = [point for point in curve.points if point is not None]
        if curve.tag:
            u, v = points[-1] if points else curve.marks[-1][:2]
            ends.append((_y_px(y, v) + 3.5, _x_px(x, u) + 6, curve.tag))
    tags: list[ChartText] = []
    for baseline, left, tag in sorted(ends):
        above = [other.y for other in tags if abs(other.x - left) < 2 * _TAG_PX]
        lowest = max((other + _TAG_PX for other in above), default=baseline)
        tags.append(ChartText(round(left, 1), round(max(baseline, lowest), 1), tag, "start"))
    return tags


def _x_px(x: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x.position(value)


def _y_px(y: Axis, value: float) -> float:
    return _CURVES_HEIGHT - _BOTTOM - (_CURVES_HEIGHT - _TOP - _BOTTOM) * y.position(value)


def _path(points: Sequence[tuple[float, float] | None], x: Axis, y: Axis) -> str:
    """Return the SVG path through the points; None starts a new piece."""
    steps, pen_is_down = [], False
    for point in points:
        if point is not None:
            command = "L" if pen_is_down else "M"
            steps.append(f"{command}{_x_px(x, point[0]):.1f} {_y_px(y, point[1]):.1f}")
        pen_is_down = point is not None
    return "".join(steps)


def _grid(x: Axis, y: Axis) -> tuple[str, list[ChartText]]:
    """Return the SVG path of the grid, and the labels of both axes."""
    left, right = _x_px(x, x.ticks[0]), _x_px(x, x.ticks[-1])
    bottom, top = _y_px(y, y.ticks[0]), _y_px(y, y.ticks[-1])
    path = [f"M{left:.1f} {_y_px(y, tick):.1f}H{right:.1f}" for tick in y.ticks]
    path += [f"M{_x_px(x, tick):.1f} {bottom:.1f}V{top:.1f}" for tick in x.ticks]
    texts = [
        ChartText(round(left - 5, 1), round(_y_px(y, tick) + 3.5, 1), y.format(tick), "end")
        for tick in y.ticks
    ]
    texts += [
        ChartText(round(_x_px(x, tick), 1), round(bottom + 13, 1), x.format(tick))
        for tick in x.ticks
    ]
    texts += [
        ChartText(round((left + right) / 2, 1), _CURVES_HEIGHT - 4.0, x.name),
        ChartText(8.0, round((top + bottom) / 2, 1), y.name, vertical=True),
    ]
    return "".join(path), texts
