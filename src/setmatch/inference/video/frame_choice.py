"""Which frames of a video are used: all, every Nth, or at most some number per second."""

from collections.abc import Callable
from dataclasses import dataclass

from setmatch.errors import ConfigError

_ROUNDING_S = 1e-6


@dataclass(frozen=True)
class FrameChoice:
    """Every `every`-th frame, or at most `fps` frames of each second of the video.

    Raises ConfigError for values out of range, or if both are given.
    """

    every: int = 1
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"every = {self.every}: give 1 for all frames, 3 for every third")
        if self.fps is not None and not 0 < self.fps < float("inf"):
            raise ConfigError(f"fps = {self.fps}: give a number of frames a second above 0")
        if self.fps is not None and self.every != 1:
            raise ConfigError("every and fps: choose one of them")

    def rate_of(self, rate: float) -> float:
        """Return how many frames a second are chosen of `rate` frames a second."""
        return rate / self.every if self.fps is None else min(rate, self.fps)

    def start(self) -> Callable[[int, float], bool]:
        """Return a function that says of each frame, by index and time in seconds, if it counts."""
        last_slot = -1

        def takes(index: int, time_s: float) -> bool:
            nonlocal last_slot
            if self.fps is None:
                return index % self.every == 0
            slot = int((time_s + _ROUNDING_S) * self.fps)  # each holds one frame
            is_new, last_slot = slot > last_slot, slot
            return is_new

        return takes
