"""Histograms and boxes as inline SVG: sharp at any size, without a script or a file beside."""

import html
from collections.abc import Callable, Sequence

from setmatch.data.survey.facts import Histogram

_WIDTH, _HEIGHT, _FOOT = 320, 120, 18
_LABELS = 6
_FEWEST_BARS = 8
_GOLDEN_ANGLE = 137.508


def bars(histogram: Histogram, caption: str, thing: str, edge: Callable[[float], str]) -> str:
    """Return a histogram as a figure; each bar tells its range and count of `thing`s.

    `edge` writes an edge of a bar. Empty bars at both ends are left out where enough remain.
    """
    filled = [number for number, count in enumerate(histogram.counts) if count]
    first, last = (filled[0], filled[-1]) if filled else (0, 0)
    while last - first + 1 < min(_FEWEST_BARS, len(histogram.counts)):
        first, last = max(first - 1, 0), min(last + 1, len(histogram.counts) - 1)
    counts = histogram.counts[first : last + 1]
    edges = histogram.edges[first : last + 2]
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
    return (
        f'<figure class="chart"><figcaption>{html.escape(caption)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(caption)}">{"".join(parts)}</svg></figure>'
    )


def boxes(
    xywh_px: Sequence[Sequence[float]],
    names: Sequence[str],
    colours: Sequence[str],
    size_px: tuple[int, int],
) -> str:
    """Return boxes to lie over a picture of (height, width) `size_px`, larger ones below."""
    order = sorted(range(len(names)), key=lambda k: -xywh_px[k][2] * xywh_px[k][3])
    parts = [
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        f'stroke="{colours[number]}"><title>{html.escape(names[number])}</title></rect>'
        for number in order
        for x, y, width, height in [xywh_px[number]]
    ]
    height, width = size_px
    return f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none">{"".join(parts)}</svg>'


def colour_of(number: int) -> str:
    """Return the colour of class `number`: hues a golden angle apart never repeat."""
    return f"hsl({(number * _GOLDEN_ANGLE + 210) % 360:.0f} 90% {(52, 45, 38)[number % 3]}%)"
