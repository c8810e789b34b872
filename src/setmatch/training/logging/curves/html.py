"""Curves as one page of HTML that needs nothing beside it."""

import html
from collections.abc import Sequence
from pathlib import Path

from setmatch.html.page import write_sheet
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.panels import COLORS, panels
from setmatch.training.logging.curves.svg import chart

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(histories: Sequence[History], path: Path) -> None:
    """Write the curves of some runs as one self-contained page."""
    name = histories[0].name if len(histories) == 1 else f"{len(histories)} runs"
    head = "".join(f"<p>{html.escape(history.summary())}</p>" for history in histories)
    foot = "Made by setmatch curves. This page needs no network."
    write_curves(histories, path, name, head, foot)


def write_curves(
    histories: Sequence[History], path: Path, name: str, head: str, foot: str, refresh: str = ""
) -> None:
    """Write the page; `head`, `foot` and `refresh` are HTML, `name` is not."""
    alone = len(histories) == 1
    remarks = "".join(
        f'<p class="remark">{html.escape(says)} <span class="soft">('
        f"{'' if alone else f'{html.escape(history.name)}, '}step {step:,})</span></p>"
        for history in histories
        for step, says in history.remarks
    )
    names = "".join(
        f'<span><i style="background:{COLORS[number % len(COLORS)]}"></i>'
        f"{html.escape(history.name)}</span>"
        for number, history in enumerate(histories)
    )
    drawn = panels(histories)
    companions = any(line.light for panel in drawn for line in panel.lines)
    parts = {
        "name": html.escape(name),
        "refresh": refresh,
        "head": head,
        "remarks": remarks,
        "legend": f"{'' if alone else names}{'<span>dashed: AP50</span>' * companions}",
        "charts": "".join(map(chart, drawn)),
        "foot": foot,
    }
    write_sheet(_TEMPLATE, parts, path)
