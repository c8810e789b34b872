"""Run a generator in a thread, ahead of who takes its items, in bounded memory."""

import threading
from collections import deque
from collections.abc import Generator
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """The items of a generator, at most `size` of them ahead.

    While nobody takes them, the generator waits; or it `drops` the oldest items, and counts them in
    `dropped`. An error of the generator is raised after the items before it. At the end of the
    context, the generator is closed, and its thread, `name`, has ended.
    """

    def __init__(
        self, items: Generator[Item, None, None], size: int, name: str, drops: bool = False
    ) -> None:
        self.dropped = 0
        self._items, self._size, self._drops = items, size, drops
        self._queue: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._outcome = _Outcome()
        # A daemon: an iterator that a program forgets does not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    def take(self, most: int) -> list[Item]:
        """Return the next `most` items, fewer at the end, and none after it.

        Where items are dropped, it returns as soon as there is one.
        """
        least = 1 if self._drops else min(most, self._size)
        with self._changed:
            self._changed.wait_for(lambda: len(self._queue) >= least or self._ended)
            if not self._queue and self._outcome.error is not None and not self._stopped:
                raise self._outcome.error
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self._changed.notify_all()
        return taken

    def stop(self) -> None:
        """Let the thread end with its next item, and `take` return nothing from now on."""
        with self._changed:
            self._stopped = self._ended = True
            self._queue.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        with self._outcome:
            try:
                for item in self._items:
                    if not self._put(item):
                        break
            finally:
                self._items.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        """Add an item, as soon as it has a place; return False if nobody wants it."""
        with self._changed:
            if self._drops and len(self._queue) == self._size:
                self._queue.popleft()
                self.dropped += 1
            self._changed.wait_for(lambda: len(self._queue) < self._size or self._stopped)
            if not self._stopped:
                self._queue.append(item)
                self._changed.notify_all()
            return not self._stopped


class _Outcome:
    """Keeps the error of a thread for who waits for it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error
        return True
