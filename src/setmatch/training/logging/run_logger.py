"""The logger of a run: log files, console output, live page, and the monitor's warnings."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setmatch.data.dataset import DetectionDataset
from setmatch.distributed import Distributed
from setmatch.training.callbacks import Callback, CallbackList
from setmatch.training.logging.console import Display
from setmatch.training.logging.live.live_page import LivePage
from setmatch.training.logging.live.recorder import SampleRecorder
from setmatch.training.logging.step_metrics import (
    SkippedSteps,
    StepMetrics,
    check_skipped_steps,
    listed,
)
from setmatch.training.logging.writers import LOG, CommaSeparated, JsonLines, Logger, Row, read_rows
from setmatch.training.monitor.monitor import WATCH, TrainingMonitor, TrainingWarning
from setmatch.training.monitor.rules import RunContext
from setmatch.training.schedule.schedule import Schedule
from setmatch.training.step import StepResult

TABLE = "log.csv"


class RunLogger:
    """Logs a run; only the first process writes.

    All processes call its methods together, because a log line has the losses of all of them.
    `earlier_rows` are those of the log that is continued.
    """

    def __init__(
        self,
        schedule: Schedule,
        metrics: StepMetrics,
        monitor: TrainingMonitor,
        display: Display,
        writers: Sequence[Logger],
        live_page: LivePage | None,
        callbacks: CallbackList,
        earlier_rows: Sequence[Row] = (),
        first_step: int = 0,
    ) -> None:
        self.metrics, self.display, self.callbacks = metrics, display, callbacks
        self._schedule, self._monitor = schedule, monitor
        self._writers, self._live_page = writers, live_page
        self._earlier_rows = earlier_rows
        self._learning_rates: dict[str, float] = {}  # at the last step, by their settings
        self._spent_s = 0.0
        self.restart_timer(first_step)

    def evaluated_steps(self) -> tuple[int, ...]:
        """Return the steps after which the log that is continued has evaluations."""
        rows = [row for row in self._earlier_rows if row["kind"] == "val"]
        return tuple(step for row in rows if isinstance(step := row["step"], int))

    def has_evaluation(self, steps: int) -> bool:
        """Return whether the log that is continued has an evaluation after `steps` steps."""
        return steps in self.evaluated_steps()

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self.display.say(sentence)

    def end(self, status: str) -> None:
        """Write on the live page how the run ended, and end the callbacks."""
        if self._live_page:
            self._live_page.end(status)
        self.callbacks.end(status)

    def restart_timer(self, steps: int) -> None:
        """Measure images/s from now on; saving and evaluating do not count."""
        self._timer_s, self._timer_step = time.monotonic(), steps

    def add_step(
        self, step: int, spent_s: float, learning_rates: Mapping[str, float], result: StepResult
    ) -> None:
        """Add the result of a step, without waiting for the device."""
        self.metrics.add(result)
        self._learning_rates, self._spent_s = dict(learning_rates), spent_s
        self.display.advance(step + 1, spent_s)

    def write_line(self, step: int) -> None:
        """Write the means since the last line; name the images behind skipped steps.

        Raises TrainingError, with advice, if too many steps in a row were skipped.
        """
        if self.metrics.empty:
            return
        summary, settings = self.metrics.summarize(), self._schedule.settings
        images = (step + 1 - self._timer_step) * settings.batch_size
        row: Row = {
            "kind": "train",
            "step": step + 1,
            "epoch": self._schedule.epoch(step) + 1,
            **self._learning_rates,
            **summary.numbers,
            "images_per_s": images / (time.monotonic() - self._timer_s),
            "seconds": round(self._spent_s, 2),
            "nonfinite": summary.skips.total,
        }
        self._write(row)
        self._write_warnings(step + 1, self._monitor.add(row, self._spent_s))
        self.restart_timer(step + 1)
        if summary.skipped:
            self.say(
                f"warning: {summary.skipped} of the last steps up to {step + 1} were skipped, "
                f"because a loss or gradient was not finite; images: {listed(summary.suspects)}"
            )
        check_skipped_steps(summary, settings.nonfinite_limit)

    def write_evaluation(
        self, steps: int, metrics: Mapping[str, Any], probe_metrics: Mapping[str, float]
    ) -> None:
        """Write the metrics of an evaluation and its probe; metrics.json has those of classes."""
        numbers = {
            name: value
            for name, value in metrics.items()
            if value is None or isinstance(value, int | float)
        }
        if "masks" in metrics:
            numbers["mask_AP"] = metrics["masks"]["AP"]
        if "panoptic" in metrics:
            panoptic = metrics["panoptic"]
            numbers |= {"PQ": panoptic["all"]["PQ"], "PQ_things": panoptic["things"]["PQ"]}
            numbers["PQ_stuff"] = panoptic["stuff"]["PQ"]
        row: Row = {
            "kind": "val",
            "step": steps,
            "epoch": self._schedule.epochs_ended(steps - 1),
            **numbers,
            **probe_metrics,
            "seconds": round(self._spent_s, 2),
        }
        # The row comes after the warnings: it marks the evaluation as complete. A run that is
        # killed in between evaluates again, and loses no warning.
        warnings = self._monitor.add(row, self._spent_s, metrics["per_class"])
        self._write_warnings(steps, warnings)
        self._write(row)
        self.restart_timer(steps)

    def warn_before_first_step(self) -> None:
        """Repeat the warnings from before a resume; add those that the schedule gives rise to."""
        for row in self._earlier_rows:
            if row["kind"] == WATCH:
                self.say(f"warning of step {row['step']}, before the interruption: {row['says']}")
        self._write_warnings(0, self._monitor.check_schedule())

    def _write_warnings(self, steps: int, warnings: Sequence[TrainingWarning]) -> None:
        for each in warnings:
            self._write({"kind": WATCH, "step": steps, "fault": each.fault, "says": each.sentence})

    def _write(self, row: Row) -> None:
        self.display.show(row)
        for writer in self._writers:
            writer.write(row)
        if self._live_page:
            self._live_page.write(row, self._spent_s)
        self.callbacks.write(row)


def open_run_logger(
    run: Path,
    schedule: Schedule,
    distributed: Distributed,
    training: DetectionDataset,
    first_step: int,
    skips: SkippedSteps,
    context: RunContext,
    callbacks: Sequence[Callback] = (),
    recorder: SampleRecorder | None = None,
) -> RunLogger:
    """Return the logger of the run in folder `run`; its log keeps the rows up to `first_step`.

    `recorder` has the images of the live page.
    """
    rows = read_rows(run / LOG, first_step)
    number_of = {id_: number for number, id_ in enumerate(training.image_ids.tolist())}
    writers: list[JsonLines | CommaSeparated] = []
    if distributed.is_first:
        writers = [JsonLines(run / LOG), CommaSeparated(run / TABLE)]
    for writer in writers:
        writer.rewrite(rows)
    display = Display(schedule, quiet=not distributed.is_first)
    return RunLogger(
        schedule,
        StepMetrics(distributed, lambda id_: training.name(number_of[id_]), skips),
        TrainingMonitor(context, rows),
        display,
        writers,
        LivePage(run, schedule, rows, recorder) if distributed.is_first else None,
        CallbackList(callbacks if distributed.is_first else (), display.say),
        rows,
        first_step,
    )
