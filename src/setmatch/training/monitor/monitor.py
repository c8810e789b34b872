"""The training monitor: warns about a run that goes wrong while it can still be fixed.

It reads only the rows of the log. It thus adds nothing to the time of a step, and a resumed run
does not repeat a warning.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from setmatch.training.logging.writers import Row
from setmatch.training.monitor.rules import (
    RULES,
    TRAIN_LOSS,
    RunContext,
    RunHistory,
    column,
    too_few_steps,
)

WATCH = "watch"  # the kind of the warnings' rows in the log
LENGTH = too_few_steps.__name__
_RECENT_ROWS = 5  # of training
_PACE_KNOWN_AT = 0.1  # fraction of a time-based run


@dataclass(frozen=True)
class TrainingWarning:
    """A warning: the name of its rule, and the sentence for the user."""

    fault: str
    sentence: str


class TrainingMonitor:
    """Reads the rows of a log, including those before a resume, and gives each warning once."""

    def __init__(self, context: RunContext, rows: Sequence[Row] = ()) -> None:
        self._context = context
        self._first: Row | None = None
        self._recent: deque[Row] = deque(maxlen=_RECENT_ROWS)
        self._evaluations: list[Row] = []
        self._given: set[str] = set()  # names of rules
        for row in rows:
            self._collect(row)

    def check_schedule(self) -> list[TrainingWarning]:
        """Return the warnings that the schedule alone gives rise to."""
        schedule = self._context.schedule
        if schedule.by_clock:
            return []
        return self._check(0.0, float(schedule.steps), {}, [LENGTH])

    def add(
        self, row: Row, spent_s: float, per_class: Mapping[str, Any] | None = None
    ) -> list[TrainingWarning]:
        """Add a row logged after `spent_s` seconds and return the new warnings.

        `per_class` are the metrics of each class, for the row of an evaluation.
        """
        self._collect(row)
        schedule, step = self._context.schedule, int(row["step"] or 0)
        progress = schedule.progress(step, spent_s)
        ap50 = {
            name: metrics["AP50"]
            for name, metrics in (per_class or {}).items()
            if metrics["AP50"] is not None  # nothing to find
        }
        rules = [rule for rule in RULES if rule != LENGTH]
        # `spent_s` was read before the last step of the row, unless the time was over.
        timed_steps = step if progress >= 1 else step - 1
        pace_known = progress >= _PACE_KNOWN_AT and timed_steps > 0
        if schedule.by_clock and pace_known:
            rules.append(LENGTH)
        return self._check(progress, timed_steps / progress if progress else 0.0, ap50, rules)

    def _collect(self, row: Row) -> None:
        match row["kind"]:
            case "train":
                self._first = self._first or row
                self._recent.append(row)
            case "val":
                losses = column(self._recent, "loss")
                self._evaluations.append({**row, TRAIN_LOSS: median(losses) if losses else None})
            case "watch":
                self._given.add(str(row["fault"]))

    def _check(
        self, progress: float, steps: float, ap50: Mapping[str, float], rules: Sequence[str]
    ) -> list[TrainingWarning]:
        history = RunHistory(
            self._context,
            self._first or {},
            tuple(self._recent),
            tuple(self._evaluations),
            ap50,
            progress,
            steps,
        )
        warnings = [
            TrainingWarning(rule, sentence)
            for rule in rules
            if rule not in self._given and (sentence := RULES[rule](history))
        ]
        self._given |= {warning.fault for warning in warnings}
        return warnings
