"""Tables of a page: rows of texts and bars, written by the macro `table` of parts.html."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A horizontal bar in a cell; a `fraction` of 1 fills it, one of -1 (no value) draws none."""

    fraction: float
    color: str = "var(--accent)"

    @property
    def percent(self) -> str:
        """Width of the bar for CSS."""
        return f"{100 * self.fraction:.1f}%"


@dataclass(frozen=True)
class Row:
    """Cells of a table; `note` is small print below the first, `bold` marks a total."""

    cells: Sequence[str | Bar]
    note: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under a head of one name a column; columns of bars have no name."""

    head: Sequence[str]
    rows: Sequence[Row]


def percent(value: float | int | None) -> str:
    """Write a fraction in percent with one decimal, as COCO does; – for None and -1, no value."""
    return "–" if value is None or value < 0 else f"{100 * value:.1f}"
