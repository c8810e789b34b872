"""What is told about a run: lines in the log, sentences and numbers on the screen."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setmatch.data.dataset import DetectionDataset
from setmatch.distributed import Distributed
from setmatch.training.logging.console import Display
from setmatch.training.logging.curves.live_page import LivePage
from setmatch.training.logging.step_metrics import (
    SkippedSteps,
    StepMetrics,
    listed,
    refuse_to_go_on,
)
from setmatch.training.logging.writers import LOG, CommaSeparated, JsonLines, Logger, Row, read_rows
from setmatch.training.monitor.monitor import WATCH, TrainingMonitor, TrainingWarning
from setmatch.training.monitor.rules import RunContext
from setmatch.training.schedule import Schedule
from setmatch.training.step import StepResult

TABLE = "log.csv"


class RunLogger:
    """Keeps the log of a run from step `first` on, and the screen; the first process alone writes.

    All processes call its methods together, since the losses of a line are those of all.
    """

    def __init__(
        self,
        run: Path,
        plan: Schedule,
        runtime: Distributed,
        images: DetectionDataset,
        first: int,
        skips: SkippedSteps,
        origin: RunContext,
    ) -> None:
        place = {id_: number for number, id_ in enumerate(images.image_ids.tolist())}
        self.meter = StepMetrics(runtime, lambda image_id: images.name(place[image_id]), skips)
        self.display = Display(plan, quiet=not runtime.is_first)
        self._plan = plan
        self._rows = read_rows(run / LOG, first)
        self._watch = TrainingMonitor(origin, self._rows)
        self._loggers: list[Logger] = []
        self._live: LivePage | None = None
        if runtime.is_first:
            self._loggers = [
                JsonLines(run / LOG, self._rows),
                CommaSeparated(run / TABLE, self._rows),
            ]
            self._live = LivePage(run, plan, self._rows)
        self._rates: dict[str, float] = {}  # of the last step, by their settings
        self._spent_s = 0.0
        self.resume_clock(first)

    def has_evaluation(self, steps: int) -> bool:
        """Say whether the log that is continued has an evaluation after `steps` steps."""
        return any(row["kind"] == "val" and row["step"] == steps for row in self._rows)

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self.display.say(sentence)

    def end(self, words: str) -> None:
        """Say on the page of the run how it ends."""
        if self._live:
            self._live.end(words)

    def resume_clock(self, steps: int) -> None:
        """Measure images/s from here: saving and evaluating are no training."""
        self._clock_s, self._clock_step = time.monotonic(), steps

    def note(
        self, step: int, spent_s: float, rates: Mapping[str, float], learned: StepResult
    ) -> None:
        """Take note of a step, without waiting for the device."""
        self.meter.add(learned)
        self._rates, self._spent_s = dict(rates), spent_s
        self.display.advance(step + 1, spent_s)

    def write_line(self, step: int) -> None:
        """Write what happened since the last line; name the images behind skipped steps.

        Raises TrainingError, with advice, when too many steps in a row were skipped.
        """
        if self.meter.empty:
            return
        reading, settings = self.meter.read(), self._plan.settings
        images = (step + 1 - self._clock_step) * settings.batch_size
        row: Row = {
            "kind": "train",
            "step": step + 1,
            "epoch": self._plan.epoch(step) + 1,
            **self._rates,
            **reading.numbers,
            "images_per_s": images / (time.monotonic() - self._clock_s),
            "seconds": round(self._spent_s, 2),
            "nonfinite": reading.skips.total,
        }
        self._write(row)
        self._remark(step + 1, self._watch.hear(row, self._spent_s))
        self.resume_clock(step + 1)
        if reading.skipped:
            self.say(
                f"warning: {reading.skipped} of the last steps up to {step + 1} were not finite "
                f"and changed nothing; images: {listed(reading.blamed)}"
            )
        refuse_to_go_on(reading, settings.nonfinite_limit)

    def write_evaluation(
        self, steps: int, metrics: Mapping[str, Any], probed: Mapping[str, float]
    ) -> None:
        """Write the numbers of an evaluation and its probe; classes are left to metrics.json."""
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        if "masks" in metrics:
            numbers["mask_AP"] = metrics["masks"]["AP"]
        if "panoptic" in metrics:
            quality = metrics["panoptic"]
            numbers |= {"PQ": quality["all"]["PQ"], "PQ_things": quality["things"]["PQ"]}
            numbers["PQ_stuff"] = quality["stuff"]["PQ"]
        ended = self._plan.ended(steps - 1)
        row: Row = {
            "kind": "val",
            "step": steps,
            "epoch": ended,
            **numbers,
            **probed,
            "seconds": round(self._spent_s, 2),
        }
        # The row comes last, as it says that the evaluation is done: a run that is killed between
        # them evaluates again, and loses no remark.
        self._remark(steps, self._watch.hear(row, self._spent_s, metrics["per_class"]))
        self._write(row)
        self.resume_clock(steps)

    def begin(self) -> None:
        """Say what is wrong with the run before its first step."""
        self._remark(0, self._watch.begin())

    def _remark(self, steps: int, remarks: Sequence[TrainingWarning]) -> None:
        for remark in remarks:
            self._write(
                {"kind": WATCH, "step": steps, "fault": remark.fault, "says": remark.sentence}
            )

    def _write(self, row: Row) -> None:
        self.display.show(row)
        for logger in self._loggers:
            logger.write(row)
        if self._live:
            self._live.write(row, self._spent_s)
