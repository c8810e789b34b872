"""The number of CPU threads is chosen by time, not by the number of cores."""

import pytest
import torch

from setmatch.training.machine.cpu_threads import fastest_num_threads, keep_num_threads


class FixedClock:
    """A clock that shows the time of the work that was done."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


def costs(clock: FixedClock, seconds: dict[int, float]):
    """Return work whose time depends on the number of threads."""
    return lambda: clock.advance(seconds[torch.get_num_threads()])


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({1: 0.04, 2: 0.02, 4: 0.01, 6: 0.005}, 6),
        ({1: 0.04, 2: 0.02, 4: 0.06, 6: 0.005}, 2),
        ({1: 0.01, 2: 0.05}, 1),
        ({1: 0.040, 2: 0.042}, 2),
    ],
)
def test_threads_are_doubled_while_that_is_not_slower(
    monkeypatch: pytest.MonkeyPatch, seconds: dict[int, float], chosen: int
):
    """A small difference does not stop the search."""
    clock = FixedClock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now_s)
    before = torch.get_num_threads()
    assert fastest_num_threads(max(seconds), costs(clock, seconds)) == chosen
    assert torch.get_num_threads() == before


def test_the_limit_of_threads_is_respected():
    """OMP_NUM_THREADS sets the limit."""
    assert fastest_num_threads(1) == 1


def test_the_number_of_threads_is_restored():
    """Also when training ends with an error."""
    before = torch.get_num_threads()

    def fail():
        with keep_num_threads():
            torch.set_num_threads(before + 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
