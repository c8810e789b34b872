"""The one way to time: candidates take turns, and a machine that is busy is noticed."""

import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

MOST_LOAD = 0.5  # other processes that compute, on average over a minute
MOST_SCATTER = 0.15  # of the medians of rounds, around their own median
WARM_UP_ROUNDS = 1  # not counted

Run = Callable[[int], Sequence[float]]  # the seconds of what runs in the round of this number


@dataclass(frozen=True)
class Times:
    """The seconds of single images, in rounds."""

    rounds_s: tuple[tuple[float, ...], ...]

    @property
    def latencies_s(self) -> list[float]:
        """The seconds of single images, ascending."""
        return sorted(seconds for each in self.rounds_s for seconds in each)

    @property
    def median_s(self) -> float:
        """The median latency of a single image."""
        return statistics.median(self.latencies_s)

    def quantile_s(self, fraction: float) -> float:
        """Return the latency that this fraction of single images does not exceed."""
        latencies_s = self.latencies_s
        return latencies_s[min(int(fraction * len(latencies_s)), len(latencies_s) - 1)]

    @property
    def scatter(self) -> float:
        """How far the medians of half of the rounds are apart, as a fraction of their median."""
        medians = [statistics.median(each) for each in self.rounds_s]
        if len(medians) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(medians, n=4, method="inclusive")
        return (high - low) / middle


def take_turns(candidates: Sequence[Run], rounds: int) -> list[list[tuple[float, ...]]]:
    """Return the seconds of each candidate in each round; other load on the machine meets all."""
    seconds: list[list[tuple[float, ...]]] = [[] for _ in candidates]
    for number in range(rounds):
        for run, own in zip(candidates, seconds, strict=True):
            own.append(tuple(run(number)))
    return seconds


def time_interleaved(
    candidates: Sequence[Sequence[Callable[[], object]]], rounds: int
) -> list[list[float]]:
    """Return the seconds of each candidate in each round, in which it runs one of its tasks."""

    def timed(tasks: Sequence[Callable[[], object]]) -> Run:
        return lambda number: [seconds_of(tasks[number % len(tasks)])]

    runs = [timed(tasks) for tasks in candidates]
    counted = [each[WARM_UP_ROUNDS:] for each in take_turns(runs, WARM_UP_ROUNDS + rounds)]
    return [[seconds for (seconds,) in each] for each in counted]


def seconds_of(task: Callable[[], object]) -> float:
    """Return how long a task takes."""
    start_s = time.perf_counter()
    task()
    return time.perf_counter() - start_s


def load_average() -> float:
    """Return how many processes computed during the last minute, on average; 0 if unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def doubts(load: float, scatters: Iterable[tuple[str, float]]) -> list[str]:
    """Return why times cannot be trusted, empty if they can.

    `load` is the load average before, and `scatters` are names and scatters of what was timed.
    """
    found = []
    if load > MOST_LOAD:
        found.append(
            f"the machine was already busy: {load:.1f} processes were running on average; end "
            "them, and measure again"
        )
    found += [
        f"{name}: half of the rounds are {scatter:.0%} apart: something else was running"
        for name, scatter in scatters
        if scatter > MOST_SCATTER
    ]
    return found
