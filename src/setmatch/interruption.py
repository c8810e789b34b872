"""Ctrl-C and SIGTERM: the program ends once, in order, and not in the middle of its own clean-up.

The command line enters `Interruption` before it imports anything heavy. Other programs keep their
own handlers.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3  # signals: the first is obeyed, the second waits for it, the third does not
_AGAIN_S = 0.05


class Interruption:
    """The handler of both signals for a program that ends after the first one.

    The first signal raises KeyboardInterrupt. The second does so only if something has caught that;
    otherwise the program is cleaning up. The third ends the process at once. After `finish`, any
    does. Imported modules and destructors that catch an interruption get it again. Processes that
    this one has forked ignore Ctrl-C, which reaches the whole group: this one ends them.
    """

    def __init__(self) -> None:
        self._received: list[int] = []
        self._process = os.getpid()
        self._finished = self._asks_again = self._was_swallowed = False
        self._timer = threading.Timer(0, int)
        self.code = 0

    def __enter__(self) -> Self:
        """Handle the signals, but for those that this process was started to ignore, by nohup."""
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, self._receive)
        self._report = sys.unraisablehook
        sys.unraisablehook = self._swallowed
        atexit.register(self._leave)  # as the first, so that it runs last
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Say that the program was interrupted, whatever its libraries have made of it."""
        if error is None or not self._received:
            return False
        print("setmatch: interrupted", file=sys.stderr, flush=True)
        self.finish(1)
        return True

    def finish(self, code: int) -> int:
        """Return the exit code of a program that has ended with `code`, but for the signals.

        Any further signal ends the process at once: nothing is left to clean up. So it is called
        before the block is left, where a signal could still raise.
        """
        self._finished = True
        self.code = 128 + self._received[0] if code and self._received else code
        return self.code

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if number != signal.SIGINT:
                os._exit(128 + number)
            return
        if self._asks_again:
            self._asks_again = False
            if not self._finished and (self._was_swallowed or _is_importing(frame)):
                self._was_swallowed = False
                self._interrupt(number)
            return
        self._received.append(number)
        if self._finished or len(self._received) >= _PATIENCE:
            os._exit(128 + self._received[0])
        self._interrupt(number)

    def _interrupt(self, number: int) -> None:
        """Raise KeyboardInterrupt unless the program ends with one; see later what became of it."""
        self._ask_again(number)
        if not is_interruption(sys.exception()):
            self._was_swallowed = False  # an earlier one: this one takes its place
            raise KeyboardInterrupt

    def _ask_again(self, number: int) -> None:
        """Send this process the signal from another thread, later; it does not count as another.

        One at a time: two might arrive as one, or the second count as a signal of the user's.
        """

        def send() -> None:
            self._asks_again = True
            os.kill(self._process, number)

        self._timer.cancel()
        self._timer = threading.Timer(_AGAIN_S, send)
        self._timer.daemon = True
        self._timer.start()

    def _leave(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self._received:
            # Python ends itself by a signal if it was interrupted in a string that it compiled.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.code)

    def _swallowed(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and self._received:
            self._was_swallowed = True  # here nothing can be raised
            self._ask_again(self._received[0])
            return
        self._report(unraisable)


def is_interruption(error: BaseException | None) -> bool:
    """Return whether an error is KeyboardInterrupt, or what a library has made of one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported; some catch every error of another import."""
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back Ctrl-C and SIGTERM while files are completed, which takes a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals interrupt the main thread alone
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None is a handler that was not installed by Python, and cannot be read back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for late in held:
            signal.raise_signal(late)
