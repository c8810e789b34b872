"""The fastest number of CPU threads, measured: on busy cores, more threads are slower."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F

_ROUNDS = 15  # of a few milliseconds: longer than a thread waits for a busy core
# Threads that compete for a core are several times slower. A smaller factor is noise, or work that
# gains less from two threads of one core than training does.
_SLOWER = 1.3


def fastest_num_threads(limit: int, work: Callable[[], object] | None = None) -> int:
    """Return the number of threads, at most `limit`, that runs `work` fastest now.

    Threads that share an operation wait for the slowest. If other programs use the cores, that one
    waits for its turn while the others spin, and two threads can take fifty times as long as one.
    The system's load would not do: a container does not see it. Torch's number of threads is
    restored.
    """
    work = work or _small_steps
    best, fastest_s = 1, float("inf")
    with keep_num_threads():
        for threads in [*(2**power for power in range((limit - 1).bit_length())), limit]:
            torch.set_num_threads(threads)
            work()  # starts the threads
            start_s = time.perf_counter()
            work()
            taken_s = time.perf_counter() - start_s
            if taken_s > _SLOWER * fastest_s:
                break
            best, fastest_s = threads, min(taken_s, fastest_s)
    return best


@contextmanager
def keep_num_threads() -> Iterator[None]:
    """Restore torch's number of threads at the end."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _small_steps() -> None:
    """Do the work of a training step on small images: many operations of about a millisecond."""
    features, kernel = torch.ones(8, 64, 20, 20), torch.ones(64, 64, 3, 3)
    for _ in range(_ROUNDS):
        features = F.relu(F.conv2d(features, kernel, padding=1)).mul(1e-3).clamp(max=1)
