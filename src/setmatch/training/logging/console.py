"""The console output of a run: sentences, and a progress bar in a terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from setmatch.html.tables import percent
from setmatch.training.logging.clock import ETA
from setmatch.training.logging.writers import Row, loss_terms
from setmatch.training.schedule.schedule import Schedule

FIRST_TERMS = ("loss", "class", "l1", "giou", "mask", "dice", "class_error")
HIDDEN_TERMS = ("cardinality_error",)
PLAIN_EVERY_S = 5.0


class Display:
    """A progress bar with the time left; without a terminal, a line every few seconds.

    Writes to stderr, so that stdout is free for results; writes nothing if `quiet`.
    """

    def __init__(self, schedule: Schedule, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._schedule = schedule
        self._progress = 0.0
        self._scores = ""
        self._printed_s = float("-inf")
        self._eta = ETA()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=1.0, done="", numbers="")

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, sentence: str, style: str | None = None) -> None:
        """Print a sentence above the bar, in a terminal with a style of rich."""
        self.console.print(sentence, markup=False, style=style)

    def advance(self, steps: int, spent_s: float) -> None:
        """Show that `steps` steps are done after `spent_s` seconds."""
        self._progress = self._schedule.progress(steps, spent_s)
        self._bar.update(self._task, completed=self._progress, done=self._steps(steps))

    def show(self, row: Row) -> None:
        """Show a row of the log."""
        if row["kind"] == "watch":
            self.say(f"warning: {row['says']}", "yellow")
            return
        if row["kind"] == "val":
            names = [name for name in ("PQ", "mask_AP", "AP") if name in row]
            self._scores = ", ".join(f"{name} {_score(row[name])}" for name in names)
            epochs = f"{row['epoch']} epoch{'' if row['epoch'] == 1 else 's'}"
            where = f"after step {row['step']} ({epochs})"
            self.say(f"{where}: {self._scores}, AP50 {_score(row['AP50'])}")
            return
        names = [name for name in FIRST_TERMS if name in row]
        names += [n for n in loss_terms(row) if n not in (*FIRST_TERMS, *HIDDEN_TERMS)]
        shown = [f"{name} {_number(row[name])}" for name in names]
        numbers = " ".join([*shown, f"{_number(row['images_per_s'])} images/s", self._scores])
        self._bar.update(self._task, numbers=numbers)
        now = time.monotonic()
        left_s = self._eta.left_s(self._progress)
        due = now - self._printed_s >= PLAIN_EVERY_S or self._progress >= 1
        if due and not self.console.is_terminal:
            self._printed_s = now
            left = "" if left_s is None else f"{left_s / 60:.1f} min left"
            steps = self._steps(int(row["step"] or 0))
            self.say(f"step {steps} epoch {row['epoch']} {numbers} {left}".rstrip())

    def _steps(self, steps: int) -> str:
        return f"{steps}" if self._schedule.by_clock else f"{steps}/{self._schedule.steps}"


def _score(value: object) -> str:
    return percent(value) if isinstance(value, int | float) else "–"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–"
