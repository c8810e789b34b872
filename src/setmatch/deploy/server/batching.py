"""Put what waits into batches of one shape, and run them one after another in a thread."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    shape: Hashable
    since_s: float
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Runs items in batches of one shape, the one that waits longest first.

    `run` takes up to `most` items of one shape and returns their results in order. While it runs,
    further items come together. If nothing runs, the first item waits up to `wait_s` for others,
    if `expected`, the number of items that are here or on their way, says that there are some.
    If a batch fails, each of its items runs alone, so that only those fail that are at fault.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        shape_of: Callable[[Item], Hashable],
        most: int,
        wait_s: float,
        expected: Callable[[], int],
    ) -> None:
        self._run = run
        self._shape_of = shape_of
        self._most = most
        self._wait_s = wait_s
        self._expected = expected
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "inference")
        self._worker: asyncio.Task[None] | None = None

    async def result_of(self, item: Item) -> Result:
        """Return the result of an item, or raise what `run` raises for it alone."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Item, Result] = _Waiting(
            item, self._shape_of(item), loop.time(), loop.create_future()
        )
        self._waiting.append(waiting)
        self._arrived.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.result

    async def close(self) -> None:
        """Stop; items that still wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        for each in self._waiting:
            each.result.cancel()
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            if not await self._succeeds(batch) and len(batch) > 1:
                for each in batch:
                    await self._succeeds([each])

    async def _next_batch(self) -> list[_Waiting[Item, Result]]:
        """Wait for the first item and those that may run with it, and take them out of the queue.

        Whoever no longer waits for a result has cancelled it.
        """
        clock = asyncio.get_running_loop().time
        while True:
            self._arrived.clear()
            self._waiting = deque(each for each in self._waiting if not each.result.done())
            if not self._waiting:
                await self._arrived.wait()
                continue
            first = self._waiting[0]
            batch = [each for each in self._waiting if each.shape == first.shape][: self._most]
            left_s = first.since_s + self._wait_s - clock()
            nobody_comes = self._expected() <= len(self._waiting)
            if len(batch) == self._most or left_s <= 0 or nobody_comes:
                taken = set(map(id, batch))
                self._waiting = deque(each for each in self._waiting if id(each) not in taken)
                return batch
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._arrived.wait()

    async def _succeeds(self, batch: Sequence[_Waiting[Item, Result]]) -> bool:
        """Run a batch and hand out its results; the error too, if there is one item alone."""
        items = [each.item for each in batch]
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._results, items)
        await asyncio.wait([running])
        error = running.exception()
        if error is not None and len(batch) > 1:
            return False
        for number, each in enumerate(batch):
            if each.result.done():
                continue
            if error is not None:
                each.result.set_exception(error)
            else:
                each.result.set_result(running.result()[number])
        return error is None

    def _results(self, items: Sequence[Item]) -> Sequence[Result]:
        results = self._run(items)
        assert len(results) == len(items), "each item has one result"
        return results
