"""RUN/live.html: a page to watch a run in a browser; it reloads itself from the disk.

The run writes it at its log lines, so watching needs no server.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from setmatch.html.page import write
from setmatch.html.tables import percent
from setmatch.ops.colors import css_color_of
from setmatch.training.logging.clock import ETA
from setmatch.training.logging.curves.history import History
from setmatch.training.logging.curves.html import curve_context
from setmatch.training.logging.live.class_table import class_rows
from setmatch.training.logging.live.recorder import MOST_MARKS, SampleRecorder
from setmatch.training.logging.live.samples import Samples
from setmatch.training.logging.report_file import ReportFile
from setmatch.training.logging.writers import Row
from setmatch.training.schedule.schedule import Schedule

PAGE = "live.html"
_WRITE_EVERY_S = 5.0
_MAX_TRAIN_ROWS = 1000  # a longer run keeps every second, fourth, ... of them


class LivePage:
    """Collects the rows of a run, with those before it was resumed, and keeps the page current.

    It shows the images of a `recorder`, if there is one.
    """

    def __init__(
        self,
        run: Path,
        plan: Schedule,
        rows: Sequence[Row] = (),
        recorder: SampleRecorder | None = None,
    ) -> None:
        self._recorder = recorder
        self._file, self._name, self._plan = ReportFile(run / PAGE), run.resolve().name, plan
        self._rows: list[Row] = []
        self._events: list[Row] = []  # evaluations and warnings, all of them
        self._train_rows, self._stride = 0, 1
        self._eta = ETA()
        self._written_s = float("-inf")
        for row in rows:
            self._collect(row)

    def write(self, row: Row, spent_s: float) -> None:
        """Add a row logged after `spent_s` seconds; the page is rewritten every few seconds."""
        self._collect(row)
        step = int(row["step"] or 0)
        progress = self._plan.progress(step, spent_s)
        left_s = self._eta.left_s(progress)
        if row["kind"] == "train" and time.monotonic() - self._written_s < _WRITE_EVERY_S:
            return
        steps = f"{step:,}" if self._plan.by_clock else f"{step:,} of {self._plan.steps:,}"
        numbers = {"steps": steps}
        if left_s is not None:
            numbers["left"] = _duration(left_s)
        self._write(numbers, progress, written_s=int(time.time()))

    def end(self, status: str) -> None:
        """Write how the run ended; the page no longer reloads itself."""
        self._write({"status": status}, None, None)

    def _collect(self, row: Row) -> None:
        if row["kind"] != "train":
            self._events.append(row)
            return
        if self._train_rows % self._stride == 0:
            self._rows.append(row)
        self._train_rows += 1
        if len(self._rows) > _MAX_TRAIN_ROWS:
            self._rows, self._stride = self._rows[::2], 2 * self._stride

    def _write(
        self, numbers: dict[str, str], progress: float | None, written_s: int | None
    ) -> None:
        if not self._rows and not self._events:
            return
        self._written_s = time.monotonic()
        history = History(self._name, (*self._rows, *self._events))
        with self._file.writing() as path:
            write(
                path,
                "training/logging/live/live_page.html",
                name=self._name,
                numbers={**numbers, **_scores_and_speed(history)},
                progress=progress,
                written_s=written_s,
                written_at=time.strftime("%Y-%m-%d %H:%M:%S"),
                **curve_context([history]),
                **self._sample_context(),
            )

    def _sample_context(self) -> dict[str, object]:
        if self._recorder is None:
            return {"samples": Samples(), "rows": [], "most_marks": MOST_MARKS, "marks": {}}
        samples = self._recorder.samples
        return {
            "samples": samples,
            "rows": class_rows(samples),
            "most_marks": MOST_MARKS,
            "marks": _marks(samples, self._recorder.names),
        }


def _scores_and_speed(history: History) -> dict[str, str]:
    speed = history.points("train", "images_per_s")
    numbers: dict[str, str] = {}
    for name, points in history.measures().items():
        best = max(value for _, value in points)
        numbers |= {f"latest {name}": percent(points[-1][1]), f"best {name}": percent(best)}
    if speed:
        numbers["images per second"] = f"{speed[-1][1]:.3g}"
    return numbers


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _marks(samples: Samples, names: Sequence[str]) -> dict[str, object]:
    """Return the boxes as strip.js reads them, with names and colors of the classes among them."""
    pictured = [*samples.batch, *samples.images]
    objects = [mark for image in pictured for mark in image.objects]
    found = [mark for each in samples.evaluations for marks in each.marks for mark in marks]
    used = sorted({mark[4] for mark in (*objects, *found) if 0 <= mark[4] < len(names)})
    return {
        "names": {index: names[index] for index in used},
        "colors": {index: css_color_of(index) for index in used},
        "measure": samples.measure,
        "batch": [image.objects for image in samples.batch],
        "images": [image.objects for image in samples.images],
        "evaluations": [
            {"step": each.step, "score": each.score, "marks": each.marks}
            for each in samples.evaluations
        ],
    }
