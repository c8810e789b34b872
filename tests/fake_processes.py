"""Simulate the processes of an evaluation by threads."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from setmatch.distributed import Distributed
from setmatch.errors import DataError


@dataclass(frozen=True)
class ThreadDistributed(Distributed):
    """A thread that acts as one process: it gathers values through `exchange`."""

    exchange: Callable[[int, Any], list[Any]] | None = None

    def gather(self, value: Any) -> list[Any]:
        assert self.exchange is not None
        return self.exchange(self.rank, value)


def in_processes(world: int, work: Callable[..., Any]) -> list[Any]:
    """Run `work(distributed)` in `world` threads; return each thread's result or DataError."""
    values: list[Any] = [None] * world
    results: list[Any] = [None] * world
    barrier = threading.Barrier(world, timeout=200)  # for busy machines

    def exchange(rank: int, value: Any) -> list[Any]:
        values[rank] = value
        barrier.wait()
        return list(values)

    def run(rank: int) -> None:
        distributed = ThreadDistributed(torch.device("cpu"), rank, world, exchange=exchange)
        try:
            results[rank] = work(distributed)
        except (DataError, threading.BrokenBarrierError) as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
