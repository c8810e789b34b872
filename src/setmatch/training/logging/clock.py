"""The time a run has spent, over all its interruptions, and the time it will still take."""

import time


class Clock:
    """Counts seconds from `spent_s` on, once it is started."""

    def __init__(self, spent_s: float) -> None:
        self._before_s = spent_s
        self._started_s: float | None = None

    def start(self) -> None:
        """Count from now."""
        self._started_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        """The seconds spent so far, those before an interruption included."""
        if self._started_s is None:
            return self._before_s
        return self._before_s + time.monotonic() - self._started_s


class ETA:
    """Tells the time that is left from the pace since it was first asked."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def left_s(self, progress: float) -> float | None:
        """Return the seconds left at `progress`, 0 to 1; None where nothing tells yet."""
        now = time.monotonic()
        began_s, first = self._began = self._began or (now, progress)
        gained = progress - first
        return (now - began_s) * (1 - progress) / gained if gained > 0 else None
