"""SIGTERM and Ctrl-C: stop after the current step, with a checkpoint and an exit code."""

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


class Stopped(SetmatchError):  # noqa: N818 - the user asked for it; it is no error
    """A signal stopped the run, after a checkpoint; `exit_code` is 143 or 130."""

    def __init__(self, number: int, where: str) -> None:
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} {where}; continue with --resume")


class StopRequest:
    """The signals that this process has received."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._stop_at_once: str | None = None  # when, in words, a signal needs no checkpoint

    def flags(self) -> Float[Tensor, "2"]:
        """Return 1 for each received signal of STOPPING, to be summed over processes."""
        return torch.tensor([float(number in self._received) for number in STOPPING])

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second Ctrl-C raises KeyboardInterrupt."""
        self._received.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._stop_at_once is not None:
            raise Stopped(number, self._stop_at_once)

    @contextmanager
    def nothing_to_save(self, when: str) -> Iterator[None]:
        """Raise Stopped at the first signal inside; `when` describes the moment in the message."""
        self._stop_at_once = when
        try:
            if self._received:
                raise Stopped(self._received[0], when)
            yield
        finally:
            self._stop_at_once = None


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
