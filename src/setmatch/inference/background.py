"""Run tasks in threads while the caller continues, such as writing files while a model computes."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

Task = Callable[[], object]


@contextmanager
def in_background(threads: int, waiting: int) -> Iterator[Callable[[Task], None]]:
    """Yield a function that starts a task in one of `threads` threads.

    It waits for the first one where `waiting` tasks have not ended, and raises the error of a task
    that failed; so does the end of the block, for the last tasks. Then, and if the block fails,
    tasks that have not begun are left out, and those that have are waited for.
    """
    tasks: deque[Future[object]] = deque()
    pool = ThreadPoolExecutor(threads)

    def start(task: Task) -> None:
        tasks.append(pool.submit(task))
        while tasks and (len(tasks) > waiting or tasks[0].done()):
            tasks.popleft().result()

    try:
        yield start
        for each in tasks:
            each.result()
    finally:
        pool.shutdown(cancel_futures=True)
