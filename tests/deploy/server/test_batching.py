"""Items run in batches of one shape, the oldest first, and fail alone."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from setmatch.deploy.server.batching import Batcher


class Runs:
    """Records the batches that run, and doubles each number."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append([*items])
        assert self.may_go_on.wait(60)
        if any(item < 0 for item in items):
            raise ValueError(f"{[item for item in items if item < 0]} are negative")
        return [2 * item for item in items]


def run(
    runs: Callable[[Sequence[int]], Sequence[int]],
    work: Callable[[Batcher[int, int]], Any],
    most: int = 4,
    wait_s: float = 0.0,
    expected: Callable[[], int] = lambda: 1000,
) -> Any:
    """Run some work with a batcher, for which tens are shapes."""

    async def inside() -> Any:
        batcher = Batcher(runs, lambda item: item // 10, most, wait_s, expected)
        try:
            return await work(batcher)
        finally:
            await batcher.close()

    return asyncio.run(inside())


def all_of(*items: int) -> Callable[[Batcher[int, int]], Any]:
    async def work(batcher: Batcher[int, int]) -> list[Any]:
        tasks = [batcher.result_of(item) for item in items]
        return await asyncio.gather(*tasks, return_exceptions=True)

    return work


def test_items_of_one_shape_run_together_the_oldest_first():
    runs = Runs()
    assert run(runs, all_of(1, 11, 2, 12, 3, 4, 5)) == [2, 22, 4, 24, 6, 8, 10]
    assert runs.batches == [[1, 2, 3, 4], [11, 12], [5]]


def test_what_comes_while_a_batch_runs_is_the_next_batch():
    runs = Runs()
    runs.may_go_on.clear()

    async def work(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.result_of(1))
        while not runs.batches:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.result_of(item)) for item in (2, 3)]
        await asyncio.sleep(0)
        runs.may_go_on.set()
        await asyncio.gather(first, *others)

    run(runs, work)
    assert runs.batches == [[1], [2, 3]]


def test_only_those_fail_that_are_at_fault():
    """The batch fails, so that each item runs alone."""
    runs = Runs()
    good, bad, also_good = run(runs, all_of(1, -1, 2), most=3)[:3]
    assert (good, also_good) == (2, 4)
    assert str(bad) == "[-1] are negative"


def test_mates_of_one_shape_survive_a_bad_one():
    runs = Runs()
    responses = run(lambda items: runs([item - 5 for item in items]), all_of(6, 4, 7))
    assert responses[::2] == [2, 4]
    assert isinstance(responses[1], ValueError)
    assert runs.batches == [[1, -1, 2], [1], [-1], [2]]


def test_a_run_that_loses_results_fails_instead_of_mixing_them():
    responses = run(lambda items: [0], all_of(1, 2))
    assert responses == [0, 0]  # each alone has its own
    responses = run(lambda items: [], all_of(1, 2))
    assert all(isinstance(each, AssertionError) for each in responses)


def test_the_first_waits_for_others_that_are_on_their_way():
    """An hour, if nobody else comes: here somebody does."""
    runs = Runs()

    async def work(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.result_of(1))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, *map(batcher.result_of, (2, 3, 4)))

    run(runs, work, wait_s=3600)
    assert runs.batches == [[1, 2, 3, 4]]


def test_nobody_waits_for_others_if_there_are_none():
    runs = Runs()
    assert run(runs, all_of(1, 2), wait_s=3600, expected=lambda: 2) == [2, 4]


def test_whoever_has_left_is_not_run():
    runs = Runs()
    runs.may_go_on.clear()

    async def work(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.result_of(1))
        while not runs.batches:
            await asyncio.sleep(0.001)
        gone, stays = (asyncio.create_task(batcher.result_of(item)) for item in (2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        runs.may_go_on.set()
        await asyncio.gather(first, stays)

    run(runs, work)
    assert runs.batches == [[1], [3]]


@pytest.mark.parametrize("most", [1, 3, 8])
def test_no_result_goes_to_another(most: int):
    items = [*range(10), *range(30, 50), *range(10)]
    assert run(Runs(), all_of(*items), most=most) == [2 * item for item in items]
