"""Write the use of object queries as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from setmatch.explanation.queries.findings import query_findings
from setmatch.explanation.queries.statistics import QueryStatistics, QueryUsage
from setmatch.explanation.queries.usage_figure import (
    KINDS_OF_BOX,
    dot_colors,
    dot_shapes,
    most_used,
    percent,
)
from setmatch.explanation.shown_scores import in_words
from setmatch.html.page import write
from setmatch.html.tables import Bar, Row, Table

_MAX_DOTS = 300  # of a query, evenly spaced over the images
_MAX_CLASSES = 3  # of a query in the table
_RADIUS = 1.6  # of a dot, in hundredths of the image's side


@dataclass(frozen=True)
class _Dot:
    """A box as an ellipse at its center, in hundredths of the image's sides."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    color: str


@dataclass(frozen=True)
class _Panel:
    """The boxes of one query."""

    caption: str
    dots: list[_Dot]


def write_page(statistics: QueryStatistics, queries: Sequence[int], path: Path) -> None:
    """Write the page; it draws the given `queries`, or the twenty with the most detections."""
    uses = statistics.uses
    shown = list(queries) or most_used(uses)
    write(
        path,
        "explanation/queries/queries.html",
        model=statistics.card.preset,
        source=statistics.source,
        threshold=in_words(statistics.threshold),
        numbers={
            "queries": f"{len(uses):,}",
            "images": f"{len(statistics.score):,}",
            "never detect": f"{sum(not use.detections for use in uses):,}",
            "specialize": f"{sum(bool(use.specializes) for use in uses):,}",
        },
        findings=query_findings(statistics),
        kinds=KINDS_OF_BOX,
        panels=[_panel(statistics, uses[query]) for query in shown],
        table=_table(statistics, uses),
    )


def _panel(statistics: QueryStatistics, use: QueryUsage) -> _Panel:
    boxes = statistics.cxcywh[:, use.query]
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    boxes = boxes[:: -(-len(boxes) // _MAX_DOTS) or 1]
    boxes = boxes[np.argsort(-boxes[:, 2] * boxes[:, 3], kind="stable")]  # small ones on top
    centers = (100 * np.clip(boxes[:, :2], 0, 1)).round(1).tolist()
    shapes = (_RADIUS * dot_shapes(boxes)).round(2).tolist()
    colors = [f"#{bytes(color).hex()}" for color in dot_colors(boxes).tolist()]
    dots = [
        _Dot(x, y, radius_x, radius_y, color)
        for (x, y), (radius_x, radius_y), color in zip(centers, shapes, colors, strict=True)
    ]
    top_class = next(iter(use.classes), "")
    fraction = percent(use.detections / max(len(statistics.score), 1))
    return _Panel(f"query {use.query}: {fraction}{top_class and ', '}{top_class}", dots)


def _table(statistics: QueryStatistics, uses: Sequence[QueryUsage]) -> Table:
    images = max(len(statistics.score), 1)
    rows = [
        Row(
            (
                str(use.query),
                Bar(use.detections / images),
                percent(use.detections / images),
                _classes(use),
                "–" if use.x is None else f"{use.x:.2f}, {use.y:.2f}",
                "–" if use.side is None else percent(use.side),
                ", ".join(use.specializes) or "–",
            )
        )
        for use in uses
        if use.detections
    ]
    return Table(("#", "", "images", "classes", "center", "size", "keeps to"), rows)


def _classes(use: QueryUsage) -> str:
    named = [f"{name} {count:,}" for name, count in use.classes.items()]
    more = f", {len(named) - _MAX_CLASSES} more" if len(named) > _MAX_CLASSES else ""
    return ", ".join(named[:_MAX_CLASSES]) + more or "–"
