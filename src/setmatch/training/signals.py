"""SIGTERM and Ctrl-C: stop at the next step boundary with a checkpoint, told by the exit code."""

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


class Stopped(SetmatchError):  # noqa: N818 - a wish that was granted is no error
    """The run was asked to stop and did, after a checkpoint; `exit_code` is 143 or 130."""

    def __init__(self, number: int, where: str) -> None:
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} {where}; go on with --resume")


class StopRequest:
    """What was asked of this process so far: nothing, or to stop by which signal."""

    def __init__(self) -> None:
        self._asked: list[int] = []
        self._nothing_to_lose: str | None = None  # the time when that is so

    def flags(self) -> Float[Tensor, "2"]:
        """Return 1 for every signal of STOPPING that came, to be summed over processes."""
        return torch.tensor([float(number in self._asked) for number in STOPPING])

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; a second Ctrl-C will leave at once, as Python does."""
        self._asked.append(number)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._nothing_to_lose is not None:
            raise Stopped(number, self._nothing_to_lose)

    @contextmanager
    def nothing_to_lose(self, when: str) -> Iterator[None]:
        """Leave at the first signal inside, and say `when` that was: nothing is to be saved."""
        self._nothing_to_lose = when
        try:
            if self._asked:
                raise Stopped(self._asked[0], when)
            yield
        finally:
            self._nothing_to_lose = None


def agreed_signal(flags: Float[Tensor, "2"]) -> int | None:
    """Return the signal that any process was sent, from the summed `flags`; None if none was."""
    for number, count in zip(STOPPING, flags.tolist(), strict=True):
        if count:
            return int(number)
    return None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGTERM and SIGINT inside; outside the main thread, where Python cannot, never stop."""
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
