"""The time a run has spent, over all its interruptions."""

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
