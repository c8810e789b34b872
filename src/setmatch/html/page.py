"""A page of HTML that needs nothing beside it: it opens from disk and asks no network."""

import string
from collections.abc import Mapping
from pathlib import Path

from setmatch.files import atomic_file

_STYLE = Path(__file__).with_name("style.css")


def write_sheet(template: Path, parts: Mapping[str, str], path: Path) -> None:
    """Write `template`, every $name filled from `parts`, to `path`, whole or not at all.

    `parts` are markup: whoever makes them has escaped what users wrote. The template asks with
    $style, without being given it, for the look that all pages share.
    """
    text = string.Template(template.read_text(encoding="utf-8"))
    filled = text.substitute({"style": _STYLE.read_text(encoding="utf-8"), **parts})
    with atomic_file(path) as aside:
        aside.write_text(filled, encoding="utf-8")
