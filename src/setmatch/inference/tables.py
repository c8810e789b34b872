"""Tables as CSV that spreadsheets open without running what is in them."""

import csv
import io
from collections.abc import Sequence

# The last four are the full-width forms of the first four.
_FORMULA_STARTS = (*"=+-@\t\r\n'", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_text(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV.

    A text that spreadsheets would run as a formula gets an apostrophe before it. So does one that
    begins with an apostrophe, so that removing one always gives the text.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([map(_cell, row) for row in rows])
    return text.getvalue()


def _cell(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(_FORMULA_STARTS)
    return f"'{value}" if is_formula else value
