"""What a person sees of a run: plain sentences, and a bar where the output is a terminal."""

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

from setmatch.training.logging.clock import ETA
from setmatch.training.logging.writers import Row, loss_terms
from setmatch.training.schedule import Schedule

FIRST_TERMS = ("loss", "class", "l1", "giou", "mask", "dice", "class_error")
HIDDEN_TERMS = ("cardinality_error",)
PLAIN_EVERY_S = 5.0


class Display:
    """A bar with time left, or a line every few seconds; nothing at all if `quiet`.

    It goes to stderr, so that stdout stays for results.
    """

    def __init__(self, plan: Schedule, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._plan = plan
        self._progress = 0.0
        self._evaluated = ""
        self._printed_s = float("-inf")
        self._forecast = ETA()
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
        """Print a sentence above the bar, in a style of rich's where the output is a terminal."""
        self.console.print(sentence, markup=False, style=style)

    def advance(self, done: int, spent_s: float) -> None:
        """Show that `done` steps are done, after `spent_s` seconds."""
        self._progress = self._plan.progress(done, spent_s)
        self._bar.update(self._task, completed=self._progress, done=self._steps(done))

    def show(self, row: Row) -> None:
        """Show a row of the log."""
        if row["kind"] == "watch":
            self.say(f"watch: {row['says']}", "yellow")
            return
        if row["kind"] == "val":
            names = [name for name in ("PQ", "mask_AP", "AP") if name in row]
            self._evaluated = ", ".join(f"{name} {_number(row[name])}" for name in names)
            self.say(f"epoch {row['epoch']}: {self._evaluated}, AP50 {_number(row['AP50'])}")
            return
        names = [name for name in FIRST_TERMS if name in row]
        names += [n for n in loss_terms(row) if n not in (*FIRST_TERMS, *HIDDEN_TERMS)]
        shown = [f"{name} {_number(row[name])}" for name in names]
        numbers = " ".join([*shown, f"{_number(row['images_per_s'])} images/s", self._evaluated])
        self._bar.update(self._task, numbers=numbers)
        now = time.monotonic()
        left_s = self._forecast.left_s(self._progress)
        due = now - self._printed_s >= PLAIN_EVERY_S or self._progress >= 1
        if due and not self.console.is_terminal:
            self._printed_s = now
            words = "" if left_s is None else f"{left_s / 60:.1f} min left"
            done = self._steps(int(row["step"] or 0))
            self.say(f"step {done} epoch {row['epoch']} {numbers} {words}".rstrip())

    def _steps(self, done: int) -> str:
        return f"{done}" if self._plan.by_clock else f"{done}/{self._plan.steps}"


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"
