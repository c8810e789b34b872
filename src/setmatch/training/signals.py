"""SIGTERM and Ctrl-C: stop after the current step, with a checkpoint and an exit code.

A process whose torchrun was killed stops in the same way: nobody else would stop it.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from jaxtyping import Float
from torch import Tensor

from setmatch.errors import SetmatchError

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Stopped(SetmatchError):  # noqa: N818 - the user asked for it; it is not an error
    """A signal stopped the run, after a checkpoint; `exit_code` is 143 or 130."""

    def __init__(self, number: int, where: str, cause: str | None = None) -> None:
        self.exit_code = 128 + number
        cause = cause or f"by {signal.Signals(number).name}"
        super().__init__(f"stopped {cause} {where}; continue with --resume")


class _SignalReceived(BaseException):
    """Leaves the code that a signal interrupts.

    Like KeyboardInterrupt, it is not an Exception: code that takes any error for a fault of an
    image or a callback must not catch it.
    """


class StopRequest:
    """The signals that this process has received; the end of its torchrun counts as SIGTERM."""

    def __init__(self) -> None:
        self._received: list[int] = []
        before = signal.getsignal(signal.SIGINT)
        self._second = before if callable(before) else signal.default_int_handler
        self._torchrun = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else None
        self._nothing_to_save = False

    def flags(self) -> Float[Tensor, "2"]:
        """Return 1 for each received signal of STOPPING, to be summed over processes."""
        received = [*self._received, *([signal.SIGTERM] if self._is_left_alone() else [])]
        return torch.tensor([float(number in received) for number in STOPPING])

    def stopped(self, number: int, where: str) -> Stopped:
        """Return the error of a run that stops `where`, for a signal that any process received."""
        return Stopped(
            number, where, "after its torchrun ended," if self._is_left_alone() else None
        )

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second Ctrl-C raises KeyboardInterrupt."""
        self._received.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._second)
        if self._nothing_to_save:
            self._nothing_to_save = False  # a second signal must not interrupt the way out
            raise _SignalReceived

    def _is_left_alone(self) -> bool:
        return self._torchrun is not None and os.getppid() != self._torchrun

    @contextmanager
    def nothing_to_save(self, when: str) -> Iterator[None]:
        """Raise Stopped at the first signal inside; `when` describes the moment in the message."""
        self._nothing_to_save = True
        try:
            if not self._received:
                yield
        except _SignalReceived:
            pass
        except Exception as error:
            if self._received:  # a library reports the interruption as an error of its own
                raise Stopped(self._received[0], when) from error
            raise
        finally:
            self._nothing_to_save = False
        if self._received:  # also where a library has caught the interruption
            raise Stopped(self._received[0], when)


def agreed_signal(flags: Float[Tensor, "2"]) -> int | None:
    """Return the signal that any process received, from the summed `flags`; None if none did."""
    for number, count in zip(STOPPING, flags.tolist(), strict=True):
        if count:
            return int(number)
    return None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT inside; Python catches none outside the main thread."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
