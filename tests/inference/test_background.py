"""Tasks run beside the caller; a failure is raised, and what has not begun is left out."""

import threading

import pytest

from setmatch.inference.background import in_background


def test_all_tasks_have_run_at_the_end():
    done: list[int] = []
    with in_background(threads=2, waiting=3) as start:
        for number in range(20):
            start(lambda number=number: done.append(number))
    assert sorted(done) == list(range(20))


def test_the_caller_goes_on_while_a_task_runs_and_waits_for_many():
    """The third task would be one too many, so the caller waits for the first."""
    may_end, started = threading.Event(), threading.Event()
    log: list[str] = []

    def slow() -> None:
        started.set()
        assert may_end.wait(60)
        log.append("slow")

    with in_background(threads=1, waiting=1) as start:
        start(slow)
        assert started.wait(60)
        log.append("caller")
        may_end.set()
        start(lambda: log.append("second"))
        log.append("waited")
    assert log[0] == "caller"
    assert log.index("slow") < log.index("waited")
    assert set(log) == {"caller", "slow", "waited", "second"}


def fail() -> None:
    raise OSError(28, "No space left on device", "drawn/a.jpg")


def test_a_failure_is_raised_and_further_tasks_are_left_out():
    """Soon, not only at the end of thousands of images."""
    started: list[int] = []

    def write_thousand() -> None:
        with in_background(1, 4) as start:
            for number in range(1000):
                start(fail)
                started.append(number)

    with pytest.raises(OSError, match="No space left"):
        write_thousand()
    assert len(started) <= 5


def test_a_failure_of_the_last_task_is_raised():
    with pytest.raises(OSError, match="No space left"), in_background(2, 8) as start:
        start(fail)


def test_the_callers_own_error_comes_first():
    """Ctrl-C waits for the tasks that run, and for no other."""
    may_end, running, done = threading.Event(), threading.Event(), []

    def slow() -> None:
        running.set()
        assert may_end.wait(60)
        done.append("slow")

    def interrupted() -> None:
        with in_background(1, 8) as start:
            start(slow)
            for _ in range(5):
                start(lambda: done.append("late"))
            assert running.wait(60)
            threading.Timer(0, may_end.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done[0] == "slow"
