"""The log of a run: RUN/log.jsonl and RUN/log.csv, a line per log interval and evaluation.

A row is flat: "kind" ("train", "val", or "watch" for a warning of the training monitor), "step",
then numbers by name. To add another tracker, write a class with `write(row)`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from setmatch.errors import UnwritableError
from setmatch.files.reading import read_text
from setmatch.files.writing import append_text, write_text

LOG = "log.jsonl"
Value = str | int | float | None
Row = Mapping[str, Value]

# The columns of a "train" row that are not loss terms; every other column is one.
_NOT_TERMS = {
    *("kind", "step", "epoch", "lr", "backbone_lr", "muon_lr"),
    *("grad_norm", "images_per_s", "seconds", "nonfinite"),
}


@runtime_checkable
class Logger(Protocol):
    """A destination of log rows."""

    def write(self, row: Row) -> None:
        """Write one row; any row may have a new column."""


class JsonLines:
    """Writes one JSON object per line, and null for a number that is not finite."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Replace the file by one with these rows."""
        with explain_unwritable(self.path):
            write_text(self.path, "".join(map(_line, rows)))

    def write(self, row: Row) -> None:
        """Append one line."""
        with explain_unwritable(self.path):
            append_text(self.path, _line(row))


class CommaSeparated:
    """Writes the rows as a table; a new column rewrites the file with a wider header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []

    def rewrite(self, rows: Sequence[Row]) -> None:
        """Replace the file by one with these rows."""
        for row in rows:
            self._columns += [name for name in row if name not in self._columns]
        with explain_unwritable(self.path):
            write_text(self.path, self._lines(rows, header=True))

    def write(self, row: Row) -> None:
        """Append one line."""
        with explain_unwritable(self.path):
            if not self.path.exists():  # someone deleted it
                self.rewrite([row])
            elif any(name not in self._columns for name in row):
                old = csv.DictReader(io.StringIO(read_text(self.path, errors="replace")))
                rows: list[Row] = [dict(each) for each in old]
                self.rewrite([*rows, row])
            else:
                append_text(self.path, self._lines([row]))

    def _lines(self, rows: Sequence[Row], header: bool = False) -> str:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, self._columns)
        if header:
            table.writeheader()
        table.writerows(rows)
        return text.getvalue()


@contextmanager
def explain_unwritable(path: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk, into an UnwritableError that names the file."""
    try:
        yield
    except OSError as error:
        raise UnwritableError(
            f"{path}: cannot be written ({error.strerror}); checkpoints are intact: free space, or "
            "remove what is in the way, then continue with --resume"
        ) from error


def loss_terms(row: Row) -> list[str]:
    """Return the names of a "train" row's loss terms: "loss" and the terms of the main group.

    Custom terms are among them. Terms of other groups, such as "denoising/l1", are not.
    """
    return [name for name in row if name not in _NOT_TERMS and "/" not in name]


def read_log(path: Path) -> tuple[list[Row], list[int]]:
    """Return the rows of a log, and the line numbers of unreadable lines.

    A killed process leaves such a line at the end. A missing log has no rows.
    """
    rows: list[Row] = []
    broken: list[int] = []
    text = read_text(path, errors="replace") if path.exists() else ""
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int) and "kind" in row:
            rows.append(row)
        else:
            broken.append(number)
    return rows, broken


def read_rows(path: Path, last_step: int) -> list[Row]:
    """Return the rows of a log up to `last_step`; a resumed run repeats what came later."""
    return [row for row in read_log(path)[0] if int(row["step"] or 0) <= last_step]


def _line(row: Row) -> str:
    finite = {
        name: None if isinstance(value, float) and value - value != 0 else value
        for name, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"
