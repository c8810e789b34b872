"""Callbacks: your own code, or a tracker of experiments, that hears how a run goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from traceback import format_exception_only
from types import TracebackType
from typing import Any, Self

from setmatch.errors import SetmatchError
from setmatch.training.logging.writers import Row


@dataclass(frozen=True)
class StartedRun:
    """A run before its next step: `first_step` is 0, or the steps that a resumed run has taken.

    `recipe` is the complete recipe, as nested dictionaries of plain values.
    """

    folder: Path
    recipe: Mapping[str, Any]
    first_step: int = 0


class Callback:
    """Hears how a run goes; override the methods that you need.

    Only the first process calls them. A row is a line of the run's log: "step", "epoch", "seconds"
    and more numbers by name, as in RUN/log.jsonl. A method that raises does not end the training:
    the run says so once, and calls this callback no more.
    """

    def on_start(self, run: StartedRun) -> None:
        """Prepare for a run. One with a box stage starts twice, each time in another folder."""

    def on_step(self, row: Row) -> None:
        """Take the means over the steps since the last line, at each log interval."""

    def on_evaluate(self, row: Row) -> str | None:
        """Take the metrics of an evaluation on the validation split.

        Return a sentence that says why to end the run here, or its box stage; None continues.
        """
        return None

    def on_end(self, status: str) -> None:
        """Finish: "done", "stopped early", "stopped after step N", or "failed: " and the reason."""


class CallbackError(SetmatchError):
    """An exception of a callback, of whatever kind, in a sentence."""


class CallbackList(AbstractContextManager["CallbackList"]):
    """The callbacks of a run. As a context, it ends them when the run fails.

    `say` prints a sentence. `reason_to_end` is that of the first callback that wants the run to
    end; None if none does.
    """

    def __init__(self, callbacks: Sequence[Callback] = (), say: Callable[[str], None] = print):
        self._callbacks, self._say = list(callbacks), say
        self._ended = True
        self.reason_to_end: str | None = None

    def start(self, run: StartedRun) -> None:
        """Start each callback."""
        self._ended, self.reason_to_end = False, None
        # Copies, so that what a callback does to them reaches nobody else.
        self._call(lambda each: each.on_start(deepcopy(run)))

    def write(self, row: Row) -> None:
        """Pass on a line of the log; warnings of the training monitor are none."""
        if row["kind"] == "train":
            self._call(lambda each: each.on_step(dict(row)))
        elif row["kind"] == "val":
            self._call(lambda each: self._evaluate(each, row))

    def end(self, status: str) -> None:
        """End each callback, once."""
        if not self._ended:
            self._ended = True
            self._call(lambda each: each.on_end(status))

    def _evaluate(self, callback: Callback, row: Row) -> None:
        reason = callback.on_evaluate(dict(row))
        if isinstance(reason, str) and self.reason_to_end is None:
            self.reason_to_end = reason

    def _call(self, method: Callable[[Callback], None]) -> None:
        for each in list(self._callbacks):
            try:
                with _explained():
                    method(each)
            except CallbackError as error:  # a tracker without a network loses no training
                self._callbacks.remove(each)
                self._say(
                    f"warning: {type(each).__name__} failed ({error}) and is not called anymore; "
                    "training continues"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.end(f"failed: {_sentence(error)}")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:  # libraries of trackers may call sys.exit
        raise CallbackError(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    # Unlike str, this never raises for a class of errors with a mistake of its own.
    whole = " ".join("".join(format_exception_only(error))[:2000].split())
    text = whole.partition(": ")[2][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
