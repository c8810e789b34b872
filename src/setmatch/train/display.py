"""What a person sees of a run: plain sentences, and a bar where the output is a terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from setmatch.train.log import Row

SHOWN = ("loss", "class", "l1", "giou", "class_error")
PLAIN_EVERY_S = 5.0


class Display:
    """A bar with time left, or a line every few seconds; nothing at all if `quiet`.

    It goes to stderr, so that stdout stays for results.
    """

    def __init__(self, steps: int, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._steps = steps
        self._evaluated = ""
        self._printed_s = float("-inf")
        self._started: tuple[float, int] | None = None
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=steps, numbers="")

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

    def say(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        self.console.print(sentence, markup=False)

    def advance(self, done: int) -> None:
        """Show that `done` steps are done."""
        self._bar.update(self._task, completed=done)

    def show(self, row: Row) -> None:
        """Show a row of the log."""
        if row["kind"] == "val":
            self._evaluated = f"AP {_number(row['AP'])}"
            self.say(f"epoch {row['epoch']}: {self._evaluated}, AP50 {_number(row['AP50'])}")
            return
        shown = [f"{name} {_number(row[name])}" for name in SHOWN if name in row]
        numbers = " ".join([*shown, f"{_number(row['images_per_s'])} images/s", self._evaluated])
        self._bar.update(self._task, numbers=numbers)
        done = int(row["step"] or 0)
        now = time.monotonic()
        started_s, first = self._started = self._started or (now, done)
        due = now - self._printed_s >= PLAIN_EVERY_S or done == self._steps
        if due and not self.console.is_terminal:
            self._printed_s = now
            pace = (now - started_s) / max(1, done - first)
            left = f"{pace * (self._steps - done) / 60:.1f} min left" if done > first else ""
            self.say(f"step {done}/{self._steps} epoch {row['epoch']} {numbers} {left}".rstrip())


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "-"
