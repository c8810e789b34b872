"""A thread runs ahead as far as it may, and ends with who takes its items."""

import threading
import weakref
from collections.abc import Generator

import pytest

from setmatch.inference.video.read_ahead import ReadAhead


class Source:
    """Yields numbers; says how many it has yielded, and whether it was closed."""

    def __init__(self, count: int) -> None:
        self.count, self.yielded, self.closed = count, 0, threading.Event()
        self.changed = threading.Condition()

    def items(self) -> Generator[int, None, None]:
        try:
            for number in range(self.count):
                with self.changed:
                    self.yielded = number + 1
                    self.changed.notify_all()
                yield number
        finally:
            self.closed.set()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.yielded >= count, 60)


def test_items_come_in_order_in_batches():
    with ReadAhead(Source(10).items(), 4, "read") as ahead:
        assert [ahead.take(4), ahead.take(4), ahead.take(4), ahead.take(4)] == [
            [0, 1, 2, 3],
            [4, 5, 6, 7],
            [8, 9],
            [],
        ]


def test_the_thread_runs_ahead_of_a_busy_taker_but_not_without_end():
    """While nobody takes anything, three items are read, and a fourth is in the thread's hand."""
    source = Source(1000)
    with ReadAhead(source.items(), 3, "read") as ahead:
        source.wait_for(4)
        assert ahead.take(1) == [0]
        source.wait_for(5)
        assert source.yielded == 5
    assert source.closed.is_set()


def test_live_items_are_dropped_the_oldest_first_and_counted():
    source = Source(1000)
    with ReadAhead(source.items(), 2, "read", drops=True) as ahead:
        assert source.closed.wait(60)  # it never waited for the taker
        assert ahead.take(1) == [998]
        assert ahead.take(5) == [999]
        assert ahead.take(5) == []
        assert ahead.dropped == 998


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_ends_the_thread_and_closes_the_source(taken: int):
    source = Source(10**9)
    with ReadAhead(source.items(), 4, "read") as ahead:
        for number in range(taken):
            assert ahead.take(1) == [number]
    assert source.closed.is_set()
    assert "read" not in {thread.name for thread in threading.enumerate()}


def test_an_error_comes_after_the_items_before_it():
    def fails() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise OSError(5, "Input/output error")

    with ReadAhead(fails(), 8, "read") as ahead:
        assert ahead.take(8) == [1, 2]
        with pytest.raises(OSError, match="Input/output"):
            ahead.take(8)


def test_whoever_waits_is_woken_by_stop():
    begun, go_on = threading.Event(), threading.Event()

    def waits() -> Generator[int, None, None]:
        begun.set()
        go_on.wait(60)
        yield 1

    with ReadAhead(waits(), 1, "read") as ahead:
        assert begun.wait(60)
        taken: list[list[int]] = []
        taker = threading.Thread(target=lambda: taken.append(ahead.take(1)))
        taker.start()
        ahead.stop()
        taker.join(60)
        assert taken == [[]]
        go_on.set()


def test_items_that_nobody_wants_are_freed():
    class Item:
        pass

    kept: list[weakref.ref[Item]] = []

    def items() -> Generator[Item, None, None]:
        for _ in range(100):
            item = Item()
            kept.append(weakref.ref(item))
            yield item

    with ReadAhead(items(), 1, "read", drops=True) as ahead:
        while ahead.take(1):
            assert sum(each() is not None for each in kept) <= 4
    assert sum(each() is not None for each in kept) <= 1
