"""Histograms and curves as inline SVG: sharp at any size, without a script or a file beside."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from setmatch.ops.colors import css_color_of

_WIDTH, _HEIGHT, _FOOT = 320, 120, 18
_LABELS = 6
_FEWEST_BARS = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 16, 8, 32  # around curves
_TALL = 220


@dataclass(frozen=True)
class Curve:
    """A line through points (x, y), None where it breaks; `marks` are (x, y, what it tells)."""

    name: str
    points: Sequence[tuple[float, float] | None]
    color: str
    dashed: bool = False
    marks: Sequence[tuple[float, float, str]] = ()


@dataclass(frozen=True)
class Axis:
    """What an axis measures, from its first to its last tick, and how ticks are written."""

    name: str
    ticks: Sequence[float]
    write: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last."""
        return (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


@dataclass(frozen=True)
class LogAxis(Axis):
    """An axis on which what is twice as much lies one step further, wherever it begins."""

    def place(self, value: float) -> float:
        """Return where a value above 0 lies: 0 at the first tick, 1 at the last."""
        return math.log(value / self.ticks[0]) / math.log(self.ticks[-1] / self.ticks[0])


def bars(
    counts: Sequence[int],
    edges: Sequence[float],
    caption: str,
    thing: str,
    edge: Callable[[float], str],
) -> str:
    """Return a histogram as a figure; each bar tells its range and count of `thing`s.

    Bar i lies between edges i and i + 1, which `edge` writes. Empty bars at both ends are left
    out where enough remain.
    """
    filled = [number for number, count in enumerate(counts) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, 0)
    while last - first + 1 < min(_FEWEST_BARS, len(counts)):
        first, last = max(first - 1, 0), min(last + 1, len(counts) - 1)
    counts, edges = counts[first : last + 1], edges[first : last + 2]
    step = _WIDTH / len(counts)
    most = max(max(counts), 1)
    parts = []
    for number, count in enumerate(counts):
        height = (_HEIGHT - _FOOT) * count / most
        low, high = edge(edges[number]), edge(edges[number + 1])
        parts.append(
            f'<rect x="{step * number + 1:.1f}" y="{_HEIGHT - _FOOT - height:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{height:.1f}" rx="2">'
            f"<title>from {low} to below {high}: {count:,} {thing}</title></rect>"
        )
    every = -(-len(edges) // _LABELS)
    for number in range(0, len(edges), every):
        anchor = "start" if number == 0 else "end" if number == len(counts) else "middle"
        parts.append(
            f'<text x="{step * number:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">'
            f"{edge(edges[number])}</text>"
        )
    return _figure(caption, _HEIGHT, parts)


def curves(drawn: Sequence[Curve], caption: str, x: Axis, y: Axis, legend: bool = True) -> str:
    """Return curves over a grid as a figure, with a legend where there are several.

    A curve tells its name when pointed at, a mark what it tells.
    """
    parts = [*_grid(x, y)]
    for curve in drawn:
        dashed = " dashed" if curve.dashed else ""
        parts.append(
            f'<path class="curve{dashed}" d="{_path(curve.points, x, y)}" '
            f'stroke="{curve.color}"><title>{html.escape(curve.name)}</title></path>'
        )
        parts += [
            f'<circle cx="{_across(x, u):.1f}" cy="{_up(y, v):.1f}" r="3.5" fill="{curve.color}">'
            f"<title>{html.escape(told)}</title></circle>"
            for u, v, told in curve.marks
        ]
    named = "".join(
        f'<span><i style="background:{curve.color}"></i>{html.escape(curve.name)}</span>'
        for curve in drawn
    )
    shown = f'<div class="legend">{named}</div>' if legend and len(drawn) > 1 else ""
    return _figure(caption, _TALL, parts, shown)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers at equal steps that enclose `low` to `high`."""
    spread = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(spread / (most - 1)))
    for step in (power * factor for factor in (1, 2, 2.5, 5, 10, 20, 25, 50)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if max(last, first + 1) - first < most:
            break
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def round_factors(low: float, high: float, most: int = 7) -> list[float]:
    """Return round numbers about equal factors apart that enclose `low` to `high`, both above 0.

    They are at most `most` unless powers of ten alone are more.
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


def color_of(number: int) -> str:
    """Return the color of class `number` as CSS writes it."""
    return css_color_of(number)


def _figure(caption: str, height: int, parts: Sequence[str], below: str = "") -> str:
    return (
        f'<figure class="chart"><figcaption>{html.escape(caption)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{html.escape(caption)}">{"".join(parts)}</svg>{below}</figure>'
    )


def _across(x: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * x.place(value)


def _up(y: Axis, value: float) -> float:
    return _TALL - _BOTTOM - (_TALL - _TOP - _BOTTOM) * y.place(value)


def _path(points: Sequence[tuple[float, float] | None], x: Axis, y: Axis) -> str:
    """Return the path through the points; after a gap it starts anew."""
    steps, pen_down = [], False
    for point in points:
        if point is not None:
            place = f"{_across(x, point[0]):.1f} {_up(y, point[1]):.1f}"
            steps.append(f"{'L' if pen_down else 'M'}{place}")
        pen_down = point is not None
    return "".join(steps)


def _grid(x: Axis, y: Axis) -> list[str]:
    left, right = _across(x, x.ticks[0]), _across(x, x.ticks[-1])
    bottom, top = _up(y, y.ticks[0]), _up(y, y.ticks[-1])
    lines = [f"M{left:.1f} {_up(y, tick):.1f}H{right:.1f}" for tick in y.ticks]
    lines += [f"M{_across(x, tick):.1f} {bottom:.1f}V{top:.1f}" for tick in x.ticks]
    texts = [
        f'<text x="{left - 5:.1f}" y="{_up(y, tick) + 3.5:.1f}" text-anchor="end">'
        f"{html.escape(y.write(tick))}</text>"
        for tick in y.ticks
    ]
    texts += [
        f'<text x="{_across(x, tick):.1f}" y="{bottom + 13:.1f}" text-anchor="middle">'
        f"{html.escape(x.write(tick))}</text>"
        for tick in x.ticks
    ]
    middle = (left + right) / 2
    names = [
        f'<text x="{middle:.1f}" y="{_TALL - 4}" text-anchor="middle">{html.escape(x.name)}</text>',
        f'<text transform="translate(8 {(top + bottom) / 2:.1f}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y.name)}</text>',
    ]
    return [f'<path class="grid" d="{"".join(lines)}"/>', *texts, *names]
