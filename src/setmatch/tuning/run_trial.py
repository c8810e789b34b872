"""Train a trial as a run of its own, which ends early where it cannot become the best one."""

import time
from dataclasses import dataclass, replace

from setmatch.errors import ConfigError, TrainingError, UnwritableError, WeightsError
from setmatch.training.callbacks import Callback, StartedRun
from setmatch.training.checkpoints.best import Run, measure_of
from setmatch.training.checkpoints.checkpoint import has_checkpoints, latest_valid
from setmatch.training.logging.writers import LOG, Row, read_rows
from setmatch.training.signals import Stopped
from setmatch.training.train import train
from setmatch.tuning.results import Search
from setmatch.tuning.sampler import is_hopeless
from setmatch.tuning.trial import Trial, folder_of, save

_MOST_STARTS = 3  # without a step of progress
_OUT_OF_TIME = "the time of the search is over; the same command continues this trial"


@dataclass(frozen=True)
class Training:
    """What all trials are trained with; none continues after `end_s` of time.monotonic."""

    data: str
    device: str = "auto"
    format: str | None = None
    boxes: str | None = None
    end_s: float = float("inf")


class Observer(Callback):
    """Records the evaluations of a trial, and ends it if it is hopeless or the time is over."""

    def __init__(self, search: Search, trial: Trial, end_s: float) -> None:
        self.trial, self.was_cut = trial, False
        self._search, self._end_s = search, end_s
        self._folder = folder_of(search.out, trial.number)
        self._begun_s = time.monotonic() - trial.seconds
        self._is_last_stage = False

    def on_start(self, run: StartedRun) -> None:
        """Record where the training starts; its box stage has another folder."""
        self._is_last_stage = run.folder == self._folder
        if self._is_last_stage:
            self.record(self.trial.started(run.first_step))

    def on_evaluate(self, row: Row) -> str | None:
        """Record the score; return why the trial ends here, if it does."""
        best = Run(self._folder).best
        if not self._is_last_stage or best is None:
            return None
        trial = self.trial.evaluated(int(row["step"] or 0), *measure_of(best))
        self.record(_judged(self._search, trial))
        if self.trial.is_over:
            return f"trial {trial.number} is {self.trial.reason}"
        self.was_cut = time.monotonic() >= self._end_s
        return _OUT_OF_TIME if self.was_cut else None

    def on_end(self, status: str) -> None:
        """Know a trial that was complete when the time was over."""
        self.was_cut = self.was_cut and status != "done"

    def record(self, trial: Trial) -> None:
        """Keep and write the trial."""
        self.trial = replace(trial, seconds=round(time.monotonic() - self._begun_s, 1))
        save(self._search.out, self.trial)


def train_trial(search: Search, trial: Trial, training: Training) -> Trial:
    """Train a trial, from its checkpoint if it has one, and return how it went.

    It has failed if its settings cannot be trained: memory does not suffice, the loss is not
    finite. It is still running if the time is over. Raises what concerns every trial, such as a
    full disk, and Stopped after a signal.
    """
    if _keeps_dying(trial):
        step = trial.starts[-1]
        reason = (
            f"its process ended {_MOST_STARTS} times after step {step} without a message, as when "
            "the system ends it because memory runs out"
        )
        return _ended(search, replace(trial, state="failed", reason=reason))
    folder = folder_of(search.out, trial.number)
    observer = Observer(search, trial, training.end_s)
    try:
        observer.trial = _with_last_evaluation(search, trial)
        if observer.trial.is_over:
            return _ended(search, observer.trial)
        train(
            training.data,
            out=folder,
            recipe=search.recipe(trial).model_dump(by_alias=True, exclude_none=True),
            resume=True,
            device=training.device,
            format=training.format,
            boxes=training.boxes,
            callbacks=[observer],
        )
    except Stopped:
        # The user did it, so that the start does not count.
        observer.record(replace(observer.trial, starts=trial.starts))
        raise
    except (ConfigError, TrainingError, WeightsError, RuntimeError, MemoryError) as error:
        if _concerns_all(error):
            raise
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        observer.record(replace(observer.trial, state="failed", reason=reason))
        return observer.trial
    if observer.trial.is_over or observer.was_cut:
        return observer.trial
    return _ended(search, _complete(observer.trial, Run(folder)))


def _judged(search: Search, trial: Trial) -> Trial:
    """Return the trial, as pruned if its last evaluation is hopeless."""
    if not is_hopeless(search.space, search.over, trial):
        return trial
    reason = f"worse than half of the other trials at evaluation {len(trial.scores)}"
    return replace(trial, state="pruned", reason=reason)


def _with_last_evaluation(search: Search, trial: Trial) -> Trial:
    """Return the trial with an evaluation that its run has logged, but nobody has recorded.

    The process was killed between the two, and the resumed run does not repeat the evaluation.
    """
    run = Run(folder_of(search.out, trial.number))
    checkpoint = latest_valid(run.folder) if has_checkpoints(run.folder) else None
    best = None if checkpoint is None else run.best
    if checkpoint is None or best is None:
        return trial
    rows = read_rows(run.folder / LOG, checkpoint.step)
    last = max((int(row["step"] or 0) for row in rows if row["kind"] == "val"), default=0)
    if last <= max(trial.steps, default=0):
        return trial
    return _judged(search, trial.evaluated(last, *measure_of(best)))


def _complete(trial: Trial, run: Run) -> Trial:
    best = run.best
    if best is None:
        return replace(trial, state="failed", reason="nothing was evaluated")
    measure, score = measure_of(best)
    if trial.score != score:  # its evaluation was not recorded
        trial = trial.evaluated(int(best["step"]), measure, score)
    return replace(trial, state="complete")


def _ended(search: Search, trial: Trial) -> Trial:
    save(search.out, trial)
    return trial


def _keeps_dying(trial: Trial) -> bool:
    last = trial.starts[-_MOST_STARTS:]
    return len(last) == _MOST_STARTS and len({*last}) == 1


def _concerns_all(error: BaseException | None) -> bool:
    """Return whether the system refused something, such as room on the disk."""
    while error is not None:
        # A data-loading process that died is a ConnectionError; smaller settings may go.
        refused = isinstance(error, OSError) and not isinstance(error, ConnectionError)
        if refused or isinstance(error, UnwritableError):
            return True
        error = error.__cause__ or error.__context__
    return False
