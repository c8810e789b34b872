"""Line charts as inline SVG: sharp at any size, without a script or a file beside."""

import html
import math

from setmatch.train.curves.panels import Line, Panel

_WIDTH, _HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 24
_DOTS = 40  # few points are also shown as such


def chart(panel: Panel) -> str:
    """Return a panel as a figure; every dot tells its step and value."""
    steps = [step for line in panel.lines for step, _ in line.points]
    values = [value for line in panel.lines for _, value in line.points]
    x_ticks = ticks(0.0, max(steps))
    y_ticks = ticks(0.0 if panel.from_zero else min(values), max(values))
    span_x = max(max(steps), x_ticks[-1]) or 1.0
    low, high = y_ticks[0], y_ticks[-1]

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / span_x

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{short(tick)}</text>'
        for tick in y_ticks
    ]
    parts += [
        f'<text x="{x(tick):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{short(tick)}</text>'
        for tick in x_ticks
        if x(tick) <= _WIDTH - _RIGHT - 4
    ]
    for line in panel.lines:
        places = [(x(step), y(value)) for step, value in line.points]
        told = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        light = ' stroke-dasharray="4 3" stroke-opacity=".7"' if line.light else ""
        parts.append(f'<polyline points="{told}" stroke="{line.colour}"{light}/>')
        if len(places) <= _DOTS:
            parts += [
                f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{line.colour}">'
                f"<title>{html.escape(line.name)}, step {step:,.0f}: {value:.4g}</title></circle>"
                for (a, b), (step, value) in zip(places, line.points, strict=True)
            ]
    title = html.escape(panel.title)
    return (
        f'<figure class="chart"><figcaption>{title}{_newest(panel)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">'
        f"{''.join(parts)}</svg></figure>"
    )


def _newest(panel: Panel) -> str:
    """Return the newest value of each line, where there are few enough to read."""
    plain: list[Line] = [line for line in panel.lines if not line.light]
    if len(plain) > 3:
        return ""
    values = (
        f' <b style="color:{line.colour}">{line.points[-1][1]:.3g}</b>'
        for line in plain
        if line.points
    )
    return "".join(values)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, two or more."""
    if high - low <= 1e-12 * max(abs(high), 1e-300):
        high = low + (abs(low) or 1.0)
    rough = (high - low) / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """Write a number for an axis: 12k, 0.25, 1e-4."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-3:
        return f"{value:.3g}".replace("e-0", "e-")
    return f"{round(value, 10):g}"
