"""The last stage of a run, which starts from the best state of the first one.

D-FINE (arXiv 2410.13842) trains so, and DEIM after it: once images are augmented no more, weights,
average and moments return to those of the best evaluation before. They return once more after each
evaluation that finds nothing better than the one before it, so the last stage is tried again on
other images. The decay of the average stays: the authors' codes set another one, which the rule
that they average by does not read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from setmatch.training.logging.writers import Row
from setmatch.training.schedule.schedule import Schedule


@dataclass(frozen=True)
class LastStage:
    """When the run returns, and to which state: a function of the step and of the log.

    A resumed run thus returns as the interrupted one did, or would have.
    """

    start: int | None = None  # the stage's first step; None for a run that never returns
    scores: Mapping[int, float] = field(default_factory=dict)  # AP by the steps before

    def add(self, steps: int, ap: float | None) -> "LastStage":
        """Return the stage after an evaluation at `steps`; without objects it has no AP."""
        return replace(self, scores={**self.scores, steps: -1.0 if ap is None else ap})

    @property
    def best_step(self) -> int | None:
        """The newest of the best evaluations before the stage; None without any."""
        if self.start is None:
            return None
        before = [step for step in self.scores if step <= self.start]
        return max(before, key=lambda step: (self.scores[step], step), default=None)

    @property
    def kept_steps(self) -> frozenset[int]:
        """The steps whose checkpoint is kept, however many newer ones there are."""
        return frozenset() if self.best_step is None else frozenset({self.best_step})

    def returns_before(self, step: int) -> bool:
        """Return whether `step` starts from the best state; the stage's first one always does."""
        if self.best_step is None or self.start is None or step <= self.start:
            return step == self.start
        returns, last = False, self.start
        to_beat: float | None = self.scores[self.best_step]
        for at in sorted(at for at in self.scores if self.start < at <= step):
            returns, last = to_beat is not None and self.scores[at] <= to_beat, at
            to_beat = None if returns else self.scores[at]
        return returns and step == last


def last_stage_of(schedule: Schedule, rows: Sequence[Row]) -> LastStage:
    """Return the last stage of a run whose log has these rows."""
    stage = LastStage(schedule.last_stage_start)
    for row in rows:
        if row["kind"] == "val" and isinstance(row["step"], int):
            ap = row.get("AP")
            stage = stage.add(row["step"], ap if isinstance(ap, float | int) else None)
    return stage
