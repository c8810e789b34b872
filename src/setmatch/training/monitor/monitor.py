"""The watch: says in plain words what goes wrong in a run while it can still be mended.

It reads what the log says, nothing else, so that it costs a step nothing and a resumed run knows
what has been said already.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from setmatch.training.logging.writers import Row
from setmatch.training.monitor.rules import (
    LOSS,
    RULES,
    RunContext,
    RunHistory,
    column,
    too_few_steps,
)

WATCH = "watch"  # the kind of its rows in the log
LENGTH = too_few_steps.__name__
_RECENT = 5  # rows of training
_PACE_KNOWN = 0.1  # of a run by the clock


@dataclass(frozen=True)
class TrainingWarning:
    """One fault of a run, said once: its name, and the sentence."""

    fault: str
    sentence: str


class TrainingMonitor:
    """Hears the rows of a log, those before a resume too, and remarks on each fault once."""

    def __init__(self, origin: RunContext, rows: Sequence[Row] = ()) -> None:
        self._origin = origin
        self._first: Row | None = None
        self._recent: deque[Row] = deque(maxlen=_RECENT)
        self._evaluations: list[Row] = []
        self._said: set[str] = set()
        self._resumed = bool(rows)
        for row in rows:
            self._keep(row)

    def begin(self) -> list[TrainingWarning]:
        """Return what the plan alone shows, before the first step of a run that is new."""
        plan = self._origin.plan
        if self._resumed or plan.by_clock:
            return []
        return self._look(0.0, float(plan.steps), {}, [LENGTH])

    def hear(
        self, row: Row, spent_s: float, per_class: Mapping[str, Any] | None = None
    ) -> list[TrainingWarning]:
        """Take a row of the log, written after `spent_s` seconds; return what is new to say.

        `per_class` are the numbers of each class, with a row of an evaluation.
        """
        self._keep(row)
        plan, step = self._origin.plan, int(row["step"] or 0)
        progress = plan.progress(step, spent_s)
        ap50 = {name: each["AP50"] for name, each in (per_class or {}).items()}
        faults = [fault for fault in RULES if fault != LENGTH]
        # The last step of a row ends after its time was taken, unless no time was left.
        timed = step if progress >= 1 else step - 1
        if plan.by_clock and not self._resumed and progress >= _PACE_KNOWN and timed > 0:
            faults.append(LENGTH)  # only now the pace tells how many steps there will be
        return self._look(progress, timed / progress if progress else 0.0, ap50, faults)

    def _keep(self, row: Row) -> None:
        match row["kind"]:
            case "train":
                self._first = self._first or row
                self._recent.append(row)
            case "val":
                losses = column(self._recent, "loss")
                self._evaluations.append({**row, LOSS: median(losses) if losses else None})
            case "watch":
                self._said.add(str(row["fault"]))

    def _look(
        self, progress: float, steps: float, ap50: Mapping[str, float], faults: Sequence[str]
    ) -> list[TrainingWarning]:
        seen = RunHistory(
            self._origin,
            self._first or {},
            tuple(self._recent),
            tuple(self._evaluations),
            ap50,
            progress,
            steps,
        )
        remarks = [
            TrainingWarning(fault, sentence)
            for fault in faults
            if fault not in self._said and (sentence := RULES[fault](seen))
        ]
        self._said |= {remark.fault for remark in remarks}
        return remarks
