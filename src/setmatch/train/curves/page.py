"""Curves as one page of HTML that needs nothing beside it."""

import html
import string
from collections.abc import Sequence
from pathlib import Path

from setmatch.files import whole_file
from setmatch.train.curves.history import History
from setmatch.train.curves.lines import chart
from setmatch.train.curves.panels import COLOURS, panels

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(histories: Sequence[History], path: Path) -> None:
    """Write the curves of some runs as one self-contained page."""
    name = histories[0].name if len(histories) == 1 else f"{len(histories)} runs"
    head = "".join(f"<p>{html.escape(history.summary())}</p>" for history in histories)
    page = page_of(histories, name, head, "Made by setmatch curves. This page needs no network.")
    with whole_file(path) as aside:
        aside.write_text(page, encoding="utf-8")


def page_of(
    histories: Sequence[History], name: str, head: str, foot: str, refresh: str = ""
) -> str:
    """Return the page; `head`, `foot` and `refresh` are HTML, `name` is not."""
    alone = len(histories) == 1
    remarks = "".join(
        f'<p class="remark">{html.escape(says)} <span>'
        f"{'' if alone else f'{html.escape(history.name)}, '}step {step:,}</span></p>"
        for history in histories
        for step, says in history.remarks
    )
    names = "".join(
        f'<li><i style="background:{COLOURS[number % len(COLOURS)]}"></i>'
        f"{html.escape(history.name)}</li>"
        for number, history in enumerate(histories)
    )
    dashed = "<li>dashed: AP50</li>"
    return string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=html.escape(name),
        refresh=refresh,
        head=head,
        remarks=remarks,
        legend=f'<ul class="legend">{"" if alone else names}{dashed}</ul>',
        charts="".join(map(chart, panels(histories))),
        foot=foot,
    )
