"""The training time of a run, across interruptions, and an estimate of the time left."""

import time


class Clock:
    """Counts the seconds of a run, starting from `spent_s` at `start`."""

    def __init__(self, spent_s: float) -> None:
        self._earlier_s = spent_s
        self._started_s: float | None = None

    def start(self) -> None:
        """Start counting."""
        self._started_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        """The seconds spent so far, including those before an interruption."""
        if self._started_s is None:
            return self._earlier_s
        return self._earlier_s + time.monotonic() - self._started_s


class ETA:
    """Estimates the time left from the progress since the first call."""

    def __init__(self) -> None:
        self._start: tuple[float, float] | None = None  # seconds, progress

    def left_s(self, progress: float) -> float | None:
        """Return the seconds left at `progress`, in [0, 1]; None if it is too early to tell."""
        now = time.monotonic()
        start_s, first = self._start = self._start or (now, progress)
        gained = progress - first
        return (now - start_s) * (1 - progress) / gained if gained > 0 else None
