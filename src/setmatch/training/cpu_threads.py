"""How many threads a CPU has to spare: measured, because on busy cores more are slower."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F

_ROUNDS = 15  # of a few milliseconds: longer than a busy core makes a thread wait
# Threads that get in each other's way cost several times as much. Less than this is noise, or work
# that gains less from two threads of one core than training does.
_SLOWER = 1.3


def fastest_threads(most: int, work: Callable[[], object] | None = None) -> int:
    """Return how many threads, at most `most`, small steps of work can have without suffering now.

    Threads that share an operation wait for the slowest of them. Where other programs use the cores
    too, that one waits for its turn while the others spin, and two threads can take fifty times as
    long as one. Measured rather than taken from the load, which a container does not see; leaves
    torch with the number of threads it had.
    """
    work = work or _small_steps
    best, soonest = 1, float("inf")
    with threads_kept():
        for threads in [*(2**power for power in range((most - 1).bit_length())), most]:
            torch.set_num_threads(threads)
            work()  # the first time starts the threads
            start = time.perf_counter()
            work()
            taken = time.perf_counter() - start
            if taken > _SLOWER * soonest:
                break
            best, soonest = threads, min(taken, soonest)
    return best


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch back, at the end, the number of threads it had."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _small_steps() -> None:
    """Do what a training step on small pictures is made of: many operations of a millisecond."""
    features, kernel = torch.ones(8, 64, 20, 20), torch.ones(64, 64, 3, 3)
    for _ in range(_ROUNDS):
        features = F.relu(F.conv2d(features, kernel, padding=1)).mul(1e-3).clamp(max=1)
