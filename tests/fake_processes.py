"""Several processes of one evaluation, played by threads."""

import threading
from collections.abc import Callable
from typing import Any

from setmatch.errors import DataError


def in_processes(world: int, work: Callable[..., Any]) -> list[Any]:
    """Do `work(rank=, world=, gather=)` in threads that hear of each other as processes would."""
    values: list[Any] = [None] * world
    outcomes: list[Any] = [None] * world
    barrier = threading.Barrier(world, timeout=20)

    def run(rank: int) -> None:
        def gather(value: Any) -> list[Any]:
            values[rank] = value
            barrier.wait()
            return list(values)

        try:
            outcomes[rank] = work(rank=rank, world=world, gather=gather)
        except (DataError, threading.BrokenBarrierError) as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
