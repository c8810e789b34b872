"""RUN/live.html: a run to watch in a browser; the page reads itself anew from the disk.

It is written by the run at its log lines, so that nothing has to be started to see it.
"""

import html
import time
from collections.abc import Sequence
from pathlib import Path

from setmatch.training.logging.clock import ETA
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.html import write_curves
from setmatch.training.logging.writers import Row
from setmatch.training.schedule import Schedule

PAGE = "live.html"
_EVERY_S = 5.0
_MOST_ROWS = 1000  # of training; a longer run keeps every second, fourth, ... of them
# A run that was killed cannot say so: the page itself tells when it has grown old.
_REFRESH = """<meta http-equiv="refresh" content="5">
<script>
  addEventListener("DOMContentLoaded", () => {
    const minutes = Math.floor((Date.now() / 1000 - %d) / 60);
    if (minutes >= 10) document.getElementById("old").textContent =
      `Nothing new for ${minutes} minutes: the run may have ended; go on with --resume.`;
  });
</script>"""


class LivePage:
    """Collects the rows of a run from those that it goes on from, and keeps the page fresh."""

    def __init__(self, run: Path, plan: Schedule, rows: Sequence[Row] = ()) -> None:
        self._path, self._name, self._plan = run / PAGE, run.resolve().name, plan
        self._rows: list[Row] = []
        self._events: list[Row] = []  # evaluations and remarks, all of them
        self._seen, self._stride = 0, 1
        self._forecast = ETA()
        self._written_s = float("-inf")
        for row in rows:
            self._keep(row)

    def write(self, row: Row, spent_s: float) -> None:
        """Take a row, written after `spent_s` seconds; the page follows every few seconds."""
        self._keep(row)
        done = int(row["step"] or 0)
        progress = self._plan.progress(done, spent_s)
        left_s = self._forecast.left_s(progress)
        if row["kind"] == "train" and time.monotonic() - self._written_s < _EVERY_S:
            return
        steps = f"{done:,}" if self._plan.by_clock else f"{done:,} of {self._plan.steps:,}"
        left = "" if left_s is None else _duration(left_s)
        self._write(progress, {"steps": steps, "left": left}, _REFRESH % time.time())

    def end(self, words: str) -> None:
        """Say on the page how the run ended; it reads itself no more."""
        self._write(None, {"how it ended": words}, "")

    def _keep(self, row: Row) -> None:
        if row["kind"] != "train":
            self._events.append(row)
            return
        if self._seen % self._stride == 0:
            self._rows.append(row)
        self._seen += 1
        if len(self._rows) > _MOST_ROWS:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def _write(self, progress: float | None, numbers: dict[str, str], refresh: str) -> None:
        if not self._rows and not self._events:
            return
        self._written_s = time.monotonic()
        history = History(self._name, (*self._rows, *self._events))
        head = _head({**numbers, **_newest(history)}, progress)
        at = time.strftime("%Y-%m-%d %H:%M:%S")
        write_curves([history], self._path, self._name, head, f"Written {at} by the run.", refresh)


def _newest(history: History) -> dict[str, str]:
    pace = history.points("train", "images_per_s")
    numbers: dict[str, str] = {}
    for name, points in history.measures().items():
        best = max(value for _, value in points)
        numbers |= {f"{name}, the last": f"{points[-1][1]:.3f}", f"{name}, the best": f"{best:.3f}"}
    if pace:
        numbers["images a second"] = f"{pace[-1][1]:.3g}"
    return numbers


def _head(numbers: dict[str, str], progress: float | None) -> str:
    boxes = "".join(
        f"<div><b>{html.escape(value)}</b>{html.escape(name)}</div>"
        for name, value in numbers.items()
        if value
    )
    bar = (
        ""
        if progress is None
        else f'<div class="progress"><i style="width:{progress:.1%}"></i></div>'
    )
    return f'<p id="old" class="soft"></p><div class="numbers">{boxes}</div>{bar}'


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
